//! `/live-demo`: a page with two panes, signed in as two users, that shows live queries at work. Off unless
//! `live.demo_page` says so.
//!
//! It is three files without a build step, uses the public endpoints only, and may load, run and talk to nothing but this
//! server: its policy forbids everything else, inline scripts too.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const FILES: [(&str, &str, &str); 3] = [
    ("/live-demo", "text/html; charset=utf-8", include_str!("demo/page.html")),
    ("/live-demo/panes.js", "text/javascript; charset=utf-8", include_str!("demo/panes.js")),
    ("/live-demo/style.css", "text/css; charset=utf-8", include_str!("demo/style.css")),
];

/// Ties the page to its addresses.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    for (path, content_type, text) in FILES {
        config.route(path, web::get().to(move || async move { file(content_type, text) }));
    }
}

fn file(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(text)
}
