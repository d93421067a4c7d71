"""Who may do what: tokens, refusals, and rules as RBAC writes them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.apiserver.failures import StatusError

ANONYMOUS: Final = "system:anonymous"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request as authorization sees it; ``resource`` is ``pods`` or ``pods/status``."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is refused; None refuses whatever it is."""

    user: str | None = None
    verbs: frozenset[str] | None = None
    resource: str | None = None
    namespace: str | None = None

    def hits(self, attempt: Attempt) -> bool:
        """Whether the attempt is one of those."""
        return (
            self.user in (None, attempt.user)
            and (self.verbs is None or attempt.verb in self.verbs)
            and self.resource in (None, attempt.resource)
            and self.namespace in (None, attempt.namespace)
        )


@dataclass(slots=True)
class Access:
    """Everybody may do everything, until tokens are asked for, rules granted or refusals made."""

    tokens: dict[str, str] = field(default_factory=dict)
    """Token -> user. When there are any, a request without one of them is answered 401."""
    refusals: list[Refusal] = field(default_factory=list)
    grants: dict[str, list[tuple[str | None, Mapping[str, Any]]]] = field(default_factory=dict)

    def refuse(
        self,
        resource: str | None = None,
        *,
        verbs: Iterable[str] | None = None,
        namespace: str | None = None,
        user: str | None = None,
    ) -> Refusal:
        """Answer such requests 403 from now on; remove what this gives from ``refusals`` again."""
        wanted = None if verbs is None else frozenset(verbs)
        refusal = Refusal(user, wanted, resource, namespace)
        self.refusals.append(refusal)
        return refusal

    def grant(
        self, user: str, rules: Iterable[Mapping[str, Any]], namespace: str | None = None
    ) -> None:
        """Let ``user`` do this and nothing else; the rules of a Role, or a ClusterRole (None)."""
        self.grants.setdefault(user, []).extend((namespace, rule) for rule in rules)

    def user_of(self, authorization: str | None) -> str:
        """Who sends that header; `StatusError` (401) for nobody we know."""
        if not self.tokens:
            return ANONYMOUS
        scheme, _, token = (authorization or "").partition(" ")
        user = self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return user

    def check(self, attempt: Attempt) -> None:
        """`StatusError` (403) for what may not be done."""
        granted = self.grants.get(attempt.user)
        allowed = granted is None or any(
            namespace in (None, attempt.namespace) and _allows(rule, attempt)
            for namespace, rule in granted
        )
        if allowed and not any(refusal.hits(attempt) for refusal in self.refusals):
            return
        where = f'in the namespace "{attempt.namespace}"' if attempt.namespace else ""
        what = f'{attempt.resource}.{attempt.group} "{attempt.name}"'.replace('. "', ' "')
        raise StatusError(
            403,
            "Forbidden",
            f'{what.removesuffix(" " + chr(34) * 2)} is forbidden: User "{attempt.user}" cannot '
            f'{attempt.verb} resource "{attempt.resource}" in API group "{attempt.group}" '
            f"{where or 'at the cluster scope'}",
            {"name": attempt.name, "group": attempt.group, "kind": attempt.resource},
        )


def _allows(rule: Mapping[str, Any], attempt: Attempt) -> bool:
    def has(key: str, value: str) -> bool:
        listed = rule.get(key) or ()
        return value in listed or "*" in listed

    names = rule.get("resourceNames")
    return (
        has("apiGroups", attempt.group)
        and has("resources", attempt.resource)
        and has("verbs", attempt.verb)
        and (not names or attempt.name in names)
    )
