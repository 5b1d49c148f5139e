//! Which entries leave the cache (FR-049, FR-050): decided from the light map in memory alone.

/// What is known of an entry without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) key: String,
    /// When it was last compared with storage, ms since 1970.
    pub(crate) refreshed_ms: i64,
    /// When somebody last asked for it, or when the process began, ms since 1970.
    pub(crate) used_ms: i64,
    /// Bytes in the persistent level; 0 if it is not there.
    pub(crate) bytes: u64,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) ttl_ms: i64,
    pub(crate) idle_ms: i64,
    pub(crate) max_entries: usize,
    pub(crate) max_bytes: u64,
}

/// What goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// Leave memory, because nobody asked for them for long.
    pub(crate) idle: Vec<String>,
    /// Leave both levels.
    pub(crate) gone: Vec<String>,
}

/// Decides: what is idle leaves memory, what is idle and expired goes, and of the rest the least recently used go
/// until the limits hold.
pub(crate) fn plan(candidates: Vec<Candidate>, policy: Policy, now_ms: i64) -> Eviction {
    let is_idle = |candidate: &Candidate| now_ms.saturating_sub(candidate.used_ms) >= policy.idle_ms;
    let is_expired = |candidate: &Candidate| now_ms.saturating_sub(candidate.refreshed_ms) >= policy.ttl_ms;
    let idle =
        candidates.iter().filter(|candidate| is_idle(candidate)).map(|candidate| candidate.key.clone()).collect();
    let (gone, mut kept): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| is_idle(candidate) && is_expired(candidate));
    let mut gone: Vec<String> = gone.into_iter().map(|candidate| candidate.key).collect();
    kept.retain(|candidate| candidate.bytes > 0);
    kept.sort_by(|a, b| (b.used_ms, b.refreshed_ms, &b.key).cmp(&(a.used_ms, a.refreshed_ms, &a.key)));
    let mut bytes: u64 = kept.iter().map(|candidate| candidate.bytes).sum();
    while kept.len() > policy.max_entries || bytes > policy.max_bytes {
        let Some(last) = kept.pop() else { break };
        bytes -= last.bytes;
        gone.push(last.key);
    }
    Eviction { idle, gone }
}

#[cfg(test)]
mod tests;
