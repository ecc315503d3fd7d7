//! WebSockets: messages of the client and of the program, passed to each other.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use modal_proto::client::asgi::{
    Type as Message, WebsocketAccept, WebsocketConnect, WebsocketDisconnect, WebsocketReceive,
    websocket_receive, websocket_send,
};

use super::endpoint::Target;
use super::front::{Visit, common_scope, plain};
use super::pickle::Value;

/// The largest message, as the real service's own limit is of this order.
const MAX_MESSAGE: usize = 64 << 20;
/// What the program is told of a client that went away without a word.
const NO_STATUS: u32 = 1005;
const ABNORMAL: u32 = 1006;

/// Whether a request wants to become a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// Accepts the connection if the program does, with the protocol that it chooses.
pub(super) async fn answer(target: Arc<Target>, client: SocketAddr, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(refused) => return refused.into_response(),
    };
    let mut scope = common_scope("websocket", "ws", &parts, client, target.port);
    let protocols = subprotocols(&parts.headers).into_iter().map(Value::Text).collect();
    scope.push(("subprotocols", Value::List(protocols)));
    let mut visit = match Visit::begin(&target, Value::Dict(scope)).await {
        Ok(visit) => visit,
        Err(error) => return plain(StatusCode::NOT_FOUND, &error.to_string()),
    };
    visit.on_leaving(gone(ABNORMAL));
    visit.exchange.send(Message::WebsocketConnect(WebsocketConnect {})).await;
    match visit.exchange.receive().await {
        Some(Message::WebsocketAccept(accept)) => accepted(upgrade, accept, visit),
        Some(Message::WebsocketClose(_)) => {
            visit.complete();
            plain(StatusCode::FORBIDDEN, "the function refused the connection")
        }
        _ => {
            visit.complete();
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the function ended without an answer")
        }
    }
}

fn accepted(upgrade: WebSocketUpgrade, accept: WebsocketAccept, visit: Visit) -> Response {
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    let upgrade = match accept.subprotocol {
        Some(chosen) => upgrade.protocols([chosen]),
        None => upgrade,
    };
    let mut response = upgrade.on_upgrade(|socket| carry(socket, visit));
    for pair in accept.headers.chunks_exact(2) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&pair[0]), HeaderValue::from_bytes(&pair[1]))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Passes messages both ways until one side closes.
async fn carry(mut socket: WebSocket, mut visit: Visit) {
    loop {
        tokio::select! {
            frame = socket.recv() => match frame {
                Some(Ok(frame)) => match to_app(frame) {
                    Some(message) => {
                        let closes = matches!(message, Message::WebsocketDisconnect(_));
                        if closes {
                            return visit.on_leaving(message);
                        }
                        visit.exchange.send(message).await;
                    }
                    None => continue,
                },
                Some(Err(_)) | None => return,
            },
            message = visit.exchange.receive() => match message {
                Some(Message::WebsocketSend(send)) => {
                    let frame = match send.content {
                        Some(websocket_send::Content::Text(text)) => Frame::Text(text.into()),
                        Some(websocket_send::Content::Bytes(bytes)) => Frame::Binary(bytes.into()),
                        None => continue,
                    };
                    if socket.send(frame).await.is_err() {
                        return;
                    }
                }
                Some(Message::WebsocketClose(close)) => {
                    visit.complete();
                    let code = close.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(1000);
                    let frame = CloseFrame { code, reason: close.reason.into() };
                    let _ = socket.send(Frame::Close(Some(frame))).await;
                    return;
                }
                Some(_) => {}
                None => {
                    visit.complete();
                    let frame = CloseFrame { code: 1011, reason: "the function ended".into() };
                    let _ = socket.send(Frame::Close(Some(frame))).await;
                    return;
                }
            },
        }
    }
}

/// A frame as the program reads it; pings are answered here.
fn to_app(frame: Frame) -> Option<Message> {
    let content = match frame {
        Frame::Text(text) => websocket_receive::Content::Text(text.to_string()),
        Frame::Binary(bytes) => websocket_receive::Content::Bytes(bytes.to_vec()),
        Frame::Ping(_) | Frame::Pong(_) => return None,
        Frame::Close(frame) => {
            return Some(gone(frame.map_or(NO_STATUS, |frame| frame.code.into())));
        }
    };
    Some(Message::WebsocketReceive(WebsocketReceive { content: Some(content) }))
}

fn gone(code: u32) -> Message {
    Message::WebsocketDisconnect(WebsocketDisconnect { code: Some(code) })
}

fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let values = values.iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|it| it.trim().to_owned()).collect()
}
