//! `POST /v1/api/import?table=ns.t`.

use std::path::Path;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use arrow::array::RecordBatch;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::{Error, Result};
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::sql::idempotency_key;
use super::{raw, refuse};
use crate::answer::{JSON, took};
use crate::app::{App, Arrival, Body, address_of};
use crate::import::{Format, Imported, Piece, Rows, Target, run};
use crate::shapes;
use kalamdb_core::Import;
use kalamdb_core::api::ImportRequest;

/// Pieces of the body that wait to be decoded.
const PIECES_WAITING_MAX: usize = 16;

#[derive(Deserialize)]
struct ImportQuery {
    table: Option<String>,
    as_user: Option<String>,
}

impl Rows for Import {
    async fn write(&mut self, chunk: RecordBatch) -> Result<u64> {
        Self::write(self, &chunk).await
    }
}

/// Takes rows into a table, chunk by chunk.
#[utoipa::path(
    post, path = "/v1/api/import", operation_id = "import", tag = "data", security(("bearer" = [])),
    params(
        ("table" = String, Query, description = "The table, as in `app.messages`."),
        ("as_user" = Option<String>, Query, description = "Whose rows they shall be."),
        ("Idempotency-Key" = Option<String>, Header, description = "Rows that an earlier attempt under it brought in are passed over.")
    ),
    request_body(
        content((String = "text/csv"), (String = "application/x-ndjson"), (Vec<u8> = "application/vnd.apache.parquet"),
            (Vec<u8> = "application/vnd.apache.arrow.stream")),
        description = "The rows."
    ),
    responses(
        (status = 200, description = "All rows are in.", body = shapes::ImportAnswer),
        (status = 400, description = "A row that is wrong; `details` says which rows are in.", body = shapes::SqlAnswer),
        (status = 401, description = "No token, or one that is no longer good.", body = shapes::SqlAnswer),
        (status = 403, description = "The user may not do that.", body = shapes::SqlAnswer),
        (status = 413, description = "Too large.", body = shapes::SqlAnswer),
        (status = 429, description = "Over a limit; try again after Retry-After.", body = shapes::SqlAnswer),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::SqlAnswer)
    )
)]
pub(super) async fn import(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let actor = match app.authenticate(&request) {
        Ok(actor) => actor,
        Err(error) => return refuse(&error, &arrival, None, None),
    };
    let role = Some(actor.role);
    let outcome = async {
        let (import, format, body) = checked(&app, actor, &request, payload, &arrival)?;
        let permit = app.admit()?;
        let (pieces, received) = mpsc::channel(PIECES_WAITING_MAX);
        let shared = App::clone(&app);
        let span = tracing::info_span!("import", request_id = arrival.request_id, user = %import.actor.user, table = import.table);
        let work = async move {
            let _permit = permit;
            let mut import = shared.engine.import(import).await?;
            let target = Target::new(import.schema(), &shared.settings.limits);
            let spool_dir = Path::new(&shared.settings.storage.data_dir).join("tmp");
            Ok(run(&mut import, target, format, received, &spool_dir).await)
        };
        fed(body, pieces, app.on_engine(work.instrument(span))).await
    };
    match outcome.await {
        Ok(Imported { rows, failure: None }) => {
            raw(200, JSON, format!("{{\"row_count\":{rows},\"took\":{}}}", took(arrival.watch)))
        }
        Ok(imported) => {
            let rows_in = imported.rows_in();
            let error = imported.failure.unwrap_or_else(|| unreachable!("the other arm"));
            refuse(&error, &arrival, role, Some(rows_in))
        }
        Err(error) => refuse(&error, &arrival, role, None),
    }
}

fn checked(
    app: &App,
    actor: Actor,
    request: &HttpRequest,
    payload: web::Payload,
    arrival: &Arrival,
) -> Result<(ImportRequest, Format, Body)> {
    let ImportQuery { table, as_user } = web::Query::<ImportQuery>::from_query(request.query_string())
        .map_err(|cause| Error::invalid_input(format!("the parameters of the request are not valid: {cause}")))?
        .into_inner();
    let table = table.filter(|table| !table.is_empty());
    let table =
        table.ok_or_else(|| Error::invalid_input("the parameter 'table' is missing: /v1/api/import?table=ns.t"))?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let format = Format::of_content_type(content_type.unwrap_or_default())?;
    let body = Body::new(request, payload, app.settings.limits.import_bytes_max)?;
    // The rows are not part of what a key stands for: they are what an earlier attempt may have brought only in part.
    let content = format!("{table}\n{}\n{format:?}", as_user.as_deref().unwrap_or_default());
    let idempotency = idempotency_key(request, content.as_bytes())?;
    let (request_id, address) = (arrival.request_id.clone(), address_of(request));
    Ok((ImportRequest { actor, as_user, table, request_id, address, idempotency }, format, body))
}

/// Hands the body on while the work goes on, and ends with the work: at the body's end, or before if it failed.
async fn fed(
    mut body: Body,
    pieces: mpsc::Sender<Piece>,
    work: impl Future<Output = Result<Imported>>,
) -> Result<Imported> {
    let feeding = async move {
        loop {
            let (piece, is_last) = match body.next().await {
                Ok(Some(bytes)) => (Piece::Data(bytes), false),
                Ok(None) => (Piece::End, true),
                Err(error) => (Piece::Broken(error), true),
            };
            if pieces.send(piece).await.is_err() || is_last {
                return;
            }
        }
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = feeding => {}
    }
    work.await
}
