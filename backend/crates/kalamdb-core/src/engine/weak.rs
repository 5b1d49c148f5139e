//! The engine as its own parts hold it: without keeping it open.

use std::any::Any;
use std::sync::{Arc, Weak};

use super::Engine;

/// An engine that may have been closed.
///
/// Its type is hidden inside: whether the engine may go to other threads would otherwise depend on its parts, these on
/// the engine again, and the compiler takes minutes to go round.
#[derive(Debug, Clone)]
pub(crate) struct WeakEngine(Weak<dyn Any + Send + Sync>);

impl WeakEngine {
    pub(super) fn new(engine: Weak<Engine>) -> Self {
        Self(engine)
    }

    /// The engine, if somebody has it open.
    pub(crate) fn upgrade(&self) -> Option<Arc<Engine>> {
        self.0.upgrade()?.downcast().ok()
    }
}
