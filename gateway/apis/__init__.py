"""What a client may ask for: which operation, what to read of its body, how its errors look.

`catalogue.resolve` maps a method and path to an operation. An operation (`call.Api`) joins a
*reader*, a pure function from a body to a `call.Call` (one module an API family), and a
*dialect* (`errors`), the shape in which that family's clients expect errors.
"""
