//! `GET /v1/api/openapi.json`: the document of the interface, made from the same table of endpoints that serves them
//! ([`routes::endpoints`](crate::routes)), so that none is missing and none is too many.

use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// The name of the security scheme: an access token, except where the endpoint says otherwise.
pub(crate) const BEARER: &str = "bearer";

/// Adds what no attribute can say.
pub(crate) struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}
