use actix_web::FromRequest;
use actix_web::test::TestRequest;
use kalamdb_commons::ErrorKind;

use super::*;

fn with_authorization(value: &str) -> HttpRequest {
    TestRequest::default().insert_header((header::AUTHORIZATION, value)).to_http_request()
}

#[test]
fn the_bearer_token_is_taken_from_its_header() {
    for value in ["Bearer abc", "bearer abc", "BEARER  abc "] {
        assert_eq!(bearer(&with_authorization(value)).unwrap(), "abc");
    }
    for value in ["abc", "Basic abc", "Bearer", "Bearer ", ""] {
        let error = bearer(&with_authorization(value)).map(ToOwned::to_owned).expect_err(value);
        assert_eq!(error.kind(), ErrorKind::MissingAuthorization);
    }
    assert!(bearer(&TestRequest::default().to_http_request()).is_err());
}

async fn body(request: TestRequest, bytes_max: usize) -> Result<Bytes> {
    let (request, mut payload) = request.to_http_parts();
    let payload = actix_web::web::Payload::from_request(&request, &mut payload).await.unwrap();
    Body::new(&request, payload, bytes_max)?.whole().await
}

#[actix_web::test]
async fn a_body_up_to_the_limit_is_read_whole() {
    assert_eq!(body(TestRequest::post().set_payload("12345"), 5).await.unwrap(), "12345");
    assert_eq!(body(TestRequest::post(), 5).await.unwrap(), "");
}

#[actix_web::test]
async fn a_longer_body_is_refused_announced_or_not() {
    let announced = TestRequest::post().insert_header((header::CONTENT_LENGTH, "6"));
    let counted = TestRequest::post().set_payload("123456");
    for request in [announced, counted] {
        let error = body(request, 5).await.expect_err("too long");
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::TooLarge, "the body has over 5 bytes, which is the limit")
        );
    }
}

#[actix_web::test]
async fn a_compressed_body_is_refused_by_name() {
    let request = TestRequest::post().insert_header((header::CONTENT_ENCODING, "gzip")).set_payload("x");
    let error = body(request, 5).await.expect_err("compressed");
    assert!(error.message().contains("gzip"), "{error}");
    let request = TestRequest::post().insert_header((header::CONTENT_ENCODING, "identity")).set_payload("x");
    assert_eq!(body(request, 5).await.unwrap(), "x");
}
