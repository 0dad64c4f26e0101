// Reads cases on standard input and tells on standard output which model each parser reads; see tests/differential.
use axum::body::Body;
use axum::extract::{Form, FromRequest, Json, Multipart, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{self, Read, Write};

#[derive(Deserialize, Serialize)]
struct Named {
    model: Option<Value>,
}

#[derive(Deserialize)]
struct NamedText {
    model: Option<String>,
}

struct Case {
    method: Vec<u8>,
    content_type: Option<Vec<u8>>,
    path: Vec<u8>,
    body: Vec<u8>,
}

fn field(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut size = [0u8; 4];
    input.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size);
    if size == u32::MAX {
        return Ok(None);
    }
    let mut octets = vec![0u8; size as usize];
    input.read_exact(&mut octets)?;
    Ok(Some(octets))
}

fn request(case: &Case) -> Option<Request> {
    let mut builder = Request::builder().method(case.method.as_slice()).uri(case.path.as_slice());
    if let Some(value) = &case.content_type {
        builder = builder.header("content-type", value.as_slice());
    }
    builder.body(Body::from(case.body.clone())).ok()
}

fn said(value: Option<Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Null,
        Some(Value::String(text)) => Value::String(text),
        Some(other) => serde_json::json!({ "other": other.to_string() }),
    }
}

fn text(value: Option<String>) -> Value {
    value.map(Value::String).unwrap_or(Value::Null)
}

async fn axum_json(case: &Case) -> Option<Value> {
    let Json(found) = Json::<Named>::from_request(request(case)?, &()).await.ok()?;
    found.model
}

async fn axum_form(case: &Case) -> Option<String> {
    let Form(found) = Form::<NamedText>::from_request(request(case)?, &()).await.ok()?;
    found.model
}

async fn axum_form_map(case: &Case) -> Option<String> {
    let Form(found) = Form::<HashMap<String, String>>::from_request(request(case)?, &()).await.ok()?;
    found.get("model").cloned()
}

async fn axum_multipart(case: &Case) -> Option<String> {
    let mut parts = Multipart::from_request(request(case)?, &()).await.ok()?;
    let mut found = None;
    while let Some(part) = parts.next_field().await.ok()? {
        if part.name() == Some("model") {
            found = Some(part.text().await.ok()?);
        } else {
            part.bytes().await.ok()?;
        }
    }
    found
}

async fn multer_last(case: &Case) -> Option<String> {
    let kind = String::from_utf8(case.content_type.clone()?).ok()?;
    let boundary = multer::parse_boundary(kind).ok()?;
    let body = case.body.clone();
    let stream = futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
    let mut parts = multer::Multipart::new(stream, boundary);
    let mut found = None;
    while let Ok(Some(part)) = parts.next_field().await {
        let is_model = part.name() == Some("model");
        let value = part.bytes().await.ok()?;
        if is_model {
            found = String::from_utf8(value.to_vec()).ok();
        }
    }
    found
}

fn sonic(body: &[u8]) -> Option<Value> {
    let found: HashMap<String, Value> = sonic_rs::from_slice(body).ok()?;
    found.get("model").cloned()
}

fn main() -> io::Result<()> {
    // Some parsers recurse without a limit: a document of 600 levels must not end the process.
    std::thread::Builder::new().stack_size(256 << 20).spawn(serve)?.join().expect("the parsers ended")
}

fn serve() -> io::Result<()> {
    let names = [
        "axum Json", "axum Form", "axum Form, a map", "axum Multipart", "multer", "serde_json, a struct",
        "serde_json, a value", "serde_urlencoded", "serde_html_form", "simd-json", "sonic-rs", "sonic-rs, a map",
    ];
    let mut output = io::BufWriter::new(io::stdout().lock());
    writeln!(output, "{}", serde_json::to_string(&names)?)?;
    output.flush()?;
    let mut input = io::BufReader::new(io::stdin().lock());
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    loop {
        let Ok(method) = field(&mut input) else { return Ok(()) };
        let case = Case {
            method: method.unwrap_or_default(),
            content_type: field(&mut input)?,
            path: field(&mut input)?.unwrap_or_default(),
            body: field(&mut input)?.unwrap_or_default(),
        };
        let body = &case.body;
        let mut copy = body.clone();
        // What reads any text as a form is asked only about what is called one.
        let kind = String::from_utf8_lossy(case.content_type.as_deref().unwrap_or_default()).to_lowercase();
        let form: &[u8] = if kind.contains("urlencoded") { body } else { b"" };
        let answers = [
            said(runtime.block_on(axum_json(&case))),
            text(runtime.block_on(axum_form(&case))),
            text(runtime.block_on(axum_form_map(&case))),
            text(runtime.block_on(axum_multipart(&case))),
            text(runtime.block_on(multer_last(&case))),
            said(serde_json::from_slice::<Named>(body).ok().and_then(|found| found.model)),
            said(serde_json::from_slice::<Value>(body).ok().and_then(|found| found.get("model").cloned())),
            text(serde_urlencoded::from_bytes::<NamedText>(form).ok().and_then(|found| found.model)),
            text(serde_html_form::from_bytes::<NamedText>(form).ok().and_then(|found| found.model)),
            said(simd_json::serde::from_slice::<Named>(&mut copy).ok().and_then(|found| found.model)),
            said(sonic_rs::from_slice::<Named>(body).ok().and_then(|found| found.model)),
            said(sonic(body)),
        ];
        writeln!(output, "{}", serde_json::to_string(&answers)?)?;
        output.flush()?;
    }
}
