use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Visit, leave, poll_as_guest};

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn a_guest_that_leaves_goes_on_where_it_is_no_guest_and_not_before() {
    let mut steps = 0;
    let mut work = Box::pin(async {
        steps += 1;
        leave().await;
        steps += 1;
        leave().await;
        steps
    });
    assert_eq!(poll_as_guest(work.as_mut(), &mut context()), Visit::Leaves);
    assert_eq!(poll_as_guest(work.as_mut(), &mut context()), Visit::Leaves, "it is a guest still");
    assert_eq!(work.as_mut().poll(&mut context()), Poll::Ready(2));
}

#[test]
fn a_guest_that_waits_stays_and_one_that_takes_no_time_is_done() {
    assert_eq!(poll_as_guest(pin!(std::future::pending::<()>()), &mut context()), Visit::Waits);
    assert_eq!(poll_as_guest(pin!(async { 7 }), &mut context()), Visit::Done(7));
}

#[test]
fn a_thread_has_no_guest_any_more_after_one_that_panicked() {
    let panicked =
        catch_unwind(AssertUnwindSafe(|| poll_as_guest(pin!(async { panic!("on purpose") }), &mut context())));
    assert!(panicked.is_err());
    assert_eq!(pin!(leave()).poll(&mut context()), Poll::Ready(()));
}
