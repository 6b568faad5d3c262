//! The client: where the server is, how requests are signed, how long they may take.

use std::io;
use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::tls;
use aws_types::service_config::ServiceConfigKey;

use crate::StoreError;
use crate::s3_options::{Addressing, S3Credentials, S3Options, Timeouts};

/// The region that servers which are not AWS know.
const ANY_REGION: &str = "us-east-1";

pub(super) async fn client(bucket: &str, options: &S3Options) -> Result<Client, StoreError> {
    let S3Options { endpoint, region, addressing, credentials, timeouts } = options;
    let mut loader = loader(timeouts);
    if let Some(endpoint) = endpoint {
        check_endpoint(endpoint).map_err(|reason| rejected(bucket, reason))?;
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(S3Credentials { access_key_id, secret_access_key }) = credentials {
        loader = loader.credentials_provider(Credentials::new(
            access_key_id,
            secret_access_key,
            None,
            None,
            "given by the caller",
        ));
    }
    let found = loader.load().await;
    let own_endpoint = has_own_endpoint(&found);
    let mut config = aws_sdk_s3::config::Builder::from(&found)
        .force_path_style(own_endpoint || *addressing == Addressing::Path)
        // Some servers refuse checksums that they do not know; requests are signed anyway.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if found.region().is_none() {
        if !own_endpoint {
            return Err(rejected(bucket, "no region is set; set AWS_REGION, or `region` in the AWS profile"));
        }
        config = config.region(Region::new(ANY_REGION));
    }
    Ok(Client::from_conf(config.build()))
}

fn loader(timeouts: &Timeouts) -> ConfigLoader {
    // The default provider of rustls takes minutes to build.
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .operation_attempt_timeout(timeouts.attempt)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
}

/// Whether the server is not AWS: the caller, a variable or a profile names an endpoint.
fn has_own_endpoint(found: &SdkConfig) -> bool {
    let of_s3 = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three keys are set");
    let named = found.service_config().and_then(|settings| settings.load_config(of_s3));
    found.endpoint_url().is_some() || named.is_some()
}

fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    match host {
        None | Some("") => Err("the endpoint must begin with `http://` or `https://`"),
        // Errors print the endpoint.
        Some(host) if host.contains('@') => Err("the endpoint must hold no password"),
        Some(_) => Ok(()),
    }
}

fn rejected(bucket: &str, reason: &str) -> StoreError {
    let source = Arc::new(io::Error::other(reason.to_owned()));
    StoreError::Rejected { path: format!("s3://{bucket}"), source }
}
