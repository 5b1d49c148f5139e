//! The socket under a connection. A client that reads nothing keeps the HTTP server from ending the connection in
//! order; then it is cut here.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net;
use parking_lot::Mutex;

/// A second handle on a connection's socket, until the connection turns out not to be a WebSocket.
#[derive(Debug)]
pub(crate) struct Socket(Mutex<Option<TcpStream>>);

impl Socket {
    /// Both directions end at once, with whatever is on its way.
    pub(crate) fn cut(&self) {
        if let Some(socket) = &*self.0.lock() {
            // A socket that is closed already is what was wanted.
            let _closed_already = socket.shutdown(Shutdown::Both);
        }
    }

    /// Gives the handle up.
    pub(crate) fn let_go(&self) {
        *self.0.lock() = None;
    }
}

/// Remembers the socket of a connection that has just been accepted, under TLS or not.
pub(crate) fn remember(connection: &dyn Any, data: &mut Extensions) {
    let plain = connection.downcast_ref::<net::TcpStream>();
    let stream = plain.or_else(|| connection.downcast_ref::<TlsStream<net::TcpStream>>().map(|tls| tls.get_ref().0));
    if let Some(stream) = stream
        && let Ok(handle) = stream.as_fd().try_clone_to_owned()
    {
        data.insert(Arc::new(Socket(Mutex::new(Some(TcpStream::from(handle))))));
    }
}
