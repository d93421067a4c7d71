"""``EndpointPickerConfig`` files of llm-d and the inference extension, read as settings of ours.

`schema` says what such a file may hold, `plugins` what each plugin is here, `reading` joins them.
docs/extproc.md has the table.
"""

from gateway.pickerconfig.reading import PickerConfig, PickerConfigError, load, read

__all__ = ["PickerConfig", "PickerConfigError", "load", "read"]
