//! The limit: how little processor time an ext_proc server can take that finds the model and routes by it.
//!
//! One thread; tonic and hyper for HTTP/2 and gRPC, serde_json for the body. It sets both routing headers, clears the
//! route cache, and hands a streamed body back. It has no limits, no other kinds of bodies, no table, no checks of
//! names or of duplicates, no logs, no metrics and no TLS: nobody should run it. Run: limit PORT
mod messages;

mod service {
    include!(concat!(env!("OUT_DIR"), "/envoy.service.ext_proc.v3.ExternalProcessor.rs"));
}

use bytes::{Bytes, BytesMut};
use messages::*;
use serde::Deserialize;
use service::external_processor_server::{ExternalProcessor, ExternalProcessorServer};
use std::{borrow::Cow, pin::Pin};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// What Envoy takes in one message of a body.
const PIECE_BYTES: usize = 62 << 10;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
}

fn say(told: Told) -> ProcessingResponse {
    ProcessingResponse { response: Some(told) }
}

fn set(name: &str, value: &str) -> SetHeader {
    let header = Header { key: name.into(), raw_value: Bytes::copy_from_slice(value.as_bytes()) };
    SetHeader { header: Some(header), append_action: OVERWRITE_OR_ADD }
}

/// The answer that routes by a body's model, and changes nothing if it names none.
fn routed(body: &[u8]) -> Result<Answer, Status> {
    let document: Document = serde_json::from_slice(body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let response = document.model.map(|model| CommonResponse {
        header_mutation: Some(HeaderMutation {
            set_headers: vec![set("X-Gateway-Model-Name", &model), set("X-Gateway-Base-Model-Name", &model)],
        }),
        clear_route_cache: true,
        ..Default::default()
    });
    Ok(Answer { response: Some(response.unwrap_or_default()) })
}

fn piece(body: Bytes, end_of_stream: bool) -> ProcessingResponse {
    let body_mutation = Some(BodyMutation { streamed_response: Some(Body { body, end_of_stream }) });
    let response = Some(CommonResponse { body_mutation, ..Default::default() });
    say(Told::RequestBody(Answer { response }))
}

/// A streamed body: the first piece as it came, and all of them in one once there are more.
#[derive(Default)]
struct Held {
    first: Bytes,
    joined: BytesMut,
}

impl Held {
    fn add(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(4 * self.first.len());
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&piece);
    }

    fn whole(&mut self) -> Bytes {
        if self.joined.is_empty() {
            std::mem::take(&mut self.first)
        } else {
            self.joined.split().freeze()
        }
    }
}

struct Router;

#[tonic::async_trait]
impl ExternalProcessor for Router {
    type ProcessStream = Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let mut messages = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let mut duplex = true;
            let mut held = Held::default();
            while let Some(message) = messages.next().await {
                let message = message?;
                if let Some(protocol) = message.protocol_config {
                    duplex = protocol.request_body_mode == FULL_DUPLEX_STREAMED;
                }
                match message.request {
                    Some(Asked::RequestHeaders(head)) if head.end_of_stream || !duplex => {
                        yield say(Told::RequestHeaders(Answer { response: Some(CommonResponse::default()) }));
                    }
                    Some(Asked::RequestBody(body)) if !duplex => yield say(Told::RequestBody(routed(&body.body)?)),
                    Some(Asked::RequestBody(body)) => {
                        held.add(body.body);
                        if body.end_of_stream {
                            let mut rest = held.whole();
                            yield say(Told::RequestHeaders(routed(&rest)?));
                            while rest.len() > PIECE_BYTES {
                                yield piece(rest.split_to(PIECE_BYTES), false);
                            }
                            yield piece(rest, true);
                        }
                    }
                    Some(Asked::ResponseHeaders(_)) => yield say(Told::ResponseHeaders(Answer::default())),
                    Some(Asked::ResponseBody(_)) => yield say(Told::ResponseBody(Answer::default())),
                    Some(Asked::RequestTrailers(_)) => yield say(Told::RequestTrailers(Nothing {})),
                    Some(Asked::ResponseTrailers(_)) => yield say(Told::ResponseTrailers(Nothing {})),
                    _ => {}
                }
            }
        })))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let port = std::env::args().nth(1).expect("usage: limit PORT");
    let address = format!("127.0.0.1:{port}").parse().expect("a port");
    let service = ExternalProcessorServer::new(Router).max_decoding_message_size(64 << 20);
    tonic::transport::Server::builder().add_service(service).serve(address).await.expect("it serves");
}
