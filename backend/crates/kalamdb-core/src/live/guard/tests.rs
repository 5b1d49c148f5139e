use kalamdb_commons::{ErrorKind, Result};

use super::*;

#[tokio::test]
async fn what_panics_is_an_error_and_what_does_not_is_what_it_is() {
    let panics = caught::<(), Error>(async { panic!("to see what becomes of it") }).await;
    assert_eq!(panics.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(caught(async { Ok::<_, Error>(1) }).await.unwrap(), 1);
    let panics: Result<()> = caught_now(|| panic!("to see what becomes of it"));
    assert_eq!(panics.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(caught_now(|| Ok::<_, Error>(1)).unwrap(), 1);
}
