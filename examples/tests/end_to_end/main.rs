//! Each example, run as a process of its own and talked to over a socket.
#![forbid(unsafe_code)]

mod axum_download;
mod child;
mod epoll_vs_uring;
mod hyper_body;
mod log_broker;
mod splice_proxy;
mod upload;
