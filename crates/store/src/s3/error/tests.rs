use super::*;

fn answer(status: u16, code: &str) -> Failure {
    Failure {
        status: Some(status),
        code: code.to_owned(),
        text: format!("{status} {code}"),
        kind: Kind::Answer,
    }
}

const TARGET: Target<'static> = Target { bucket: "b", path: "p" };

/// The variant's name.
fn variant(error: &StoreError) -> String {
    format!("{error:?}").split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn answers_are_told_apart_by_what_to_do() {
    for (status, code, expected, transient) in [
        (404, "NoSuchKey", "NotFound", false),
        (404, "", "NotFound", false),
        (404, "NoSuchBucket", "NoBucket", false),
        (404, "NoSuchUpload", "UploadGone", false),
        (409, "ConditionalRequestConflict", "Contended", true),
        (409, "OperationAborted", "Contended", true),
        (409, "ObjectParentIsFile", "Unstorable", false),
        (400, "KeyTooLongError", "Unstorable", false),
        (429, "", "Throttled", true),
        (503, "SlowDown", "Throttled", true),
        (503, "ServiceUnavailable", "Throttled", true),
        (503, "", "Io", true),
        (500, "InternalError", "Io", true),
        // A completion answers with the status first, and may then find that it failed.
        (200, "InternalError", "Io", true),
        (400, "RequestTimeout", "Io", true),
        (408, "", "Io", true),
        (507, "", "DiskFull", false),
        (403, "AccessDenied", "Denied", false),
        (403, "SignatureDoesNotMatch", "Denied", false),
        (401, "", "Denied", false),
        (400, "ExpiredToken", "Denied", false),
        (301, "PermanentRedirect", "Rejected", false),
        (400, "EntityTooSmall", "Rejected", false),
        (501, "NotImplemented", "Rejected", false),
    ] {
        let error = TARGET.error(answer(status, code));
        assert_eq!(variant(&error), expected, "{status} {code}");
        assert_eq!(error.is_transient(), transient, "{status} {code}");
    }
    let missing = TARGET.error(answer(404, "NoSuchBucket")).to_string();
    assert_eq!(missing, "there is no bucket `b`; make it, or correct the URL");
}

#[test]
fn an_unmet_condition_is_no_error() {
    let update = PutMode::Update(Etag::new("e"));
    for (status, code, mode) in [
        (412, "PreconditionFailed", &PutMode::Create),
        (412, "", &update),
        (404, "NoSuchKey", &update),
        (404, "", &update),
    ] {
        let outcome = TARGET.conditional(answer(status, code), mode);
        assert_eq!(outcome.unwrap(), PutOutcome::Conflict, "{status} {code}");
    }
    for (status, code, expected) in [
        (404, "NoSuchBucket", "NoBucket"),
        (404, "NoSuchUpload", "UploadGone"),
        (409, "ConditionalRequestConflict", "Contended"),
    ] {
        let error = TARGET.conditional(answer(status, code), &update).unwrap_err();
        assert_eq!(variant(&error), expected);
    }
}

#[test]
fn a_request_without_an_answer_may_have_taken_effect() {
    let timeout = SdkError::<aws_sdk_s3::operation::put_object::PutObjectError>::timeout_error("too slow");
    let error = TARGET.error(Failure::of(timeout));
    assert_eq!(variant(&error), "Io");
    assert!(error.to_string().contains("too slow"), "{error}");
}

#[test]
fn missing_credentials_are_not_a_passing_failure() {
    for (cause, expected) in [
        (CredentialsError::not_loaded_no_source(), "Denied"),
        (CredentialsError::invalid_configuration("a profile refers to itself"), "Denied"),
        (CredentialsError::provider_timed_out(std::time::Duration::from_secs(1)), "Io"),
        (CredentialsError::provider_error("the role's server is away"), "Io"),
    ] {
        let text = cause.to_string();
        let unsigned = aws_sdk_s3::error::ConnectorError::other(Box::new(cause), None);
        let error = SdkError::<aws_sdk_s3::operation::put_object::PutObjectError>::dispatch_failure(unsigned);
        assert_eq!(variant(&TARGET.error(Failure::of(error))), expected, "{text}");
    }
}
