//! Makes the service's trait and server. The messages are declared by hand in src/messages.rs.
use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let process = Method::builder()
        .name("process")
        .route_name("Process")
        .input_type("crate::messages::ProcessingRequest")
        .output_type("crate::messages::ProcessingResponse")
        .codec_path("tonic_prost::ProstCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let service = Service::builder()
        .name("ExternalProcessor")
        .package("envoy.service.ext_proc.v3")
        .method(process)
        .build();
    Builder::new().build_client(false).compile(&[service]);
}
