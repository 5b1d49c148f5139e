use super::*;

/// Bytes that a task takes while it waits for its turn, as ten thousand may.
const WAITING_BYTES_MAX: usize = 512;

fn bytes_of<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn who_waits_for_a_turn_takes_little_memory() {
    let begins = bytes_of(|feeder: Feeder| async move { feeder.begin(None).await });
    let goes_on = bytes_of(|(feeder, pin): (Feeder, LogPin)| async move { feeder.go_on(pin).await });
    assert!(begins <= WAITING_BYTES_MAX && goes_on <= 2 * WAITING_BYTES_MAX, "{begins} and {goes_on} bytes");
}
