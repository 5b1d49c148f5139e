//! Records survive a real store.
