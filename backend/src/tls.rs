//! TLS: the certificate and key that the settings name, read once at the start.

use std::path::Path;

use kalamdb_commons::settings::ServerSettings;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a TLS listener takes; `None` if the settings name no certificate. TLS 1.2 and 1.3. The error is one line, for
/// people.
pub(crate) fn load(settings: &ServerSettings) -> Result<Option<ServerConfig>, String> {
    if settings.tls_cert_file.is_empty() {
        return Ok(None);
    }
    let (cert_file, key_file) = (Path::new(&settings.tls_cert_file), Path::new(&settings.tls_key_file));
    let chain =
        CertificateDer::pem_file_iter(cert_file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(|error| {
            format!("cannot read the certificates in server.tls_cert_file {}: {error}", cert_file.display())
        })?;
    if chain.is_empty() {
        return Err(format!("server.tls_cert_file {} holds no certificate in PEM form", cert_file.display()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| format!("cannot read the key in server.tls_key_file {}: {error}", key_file.display()))?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(Some)
        .map_err(|error| format!("{} and {} do not go together: {error}", cert_file.display(), key_file.display()))
}
