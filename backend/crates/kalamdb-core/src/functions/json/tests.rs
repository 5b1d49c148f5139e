//! JSON operators.
