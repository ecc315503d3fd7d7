//! What a container reaches.

/// What a container reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkSpec {
    /// Its own loopback and nothing else.
    None,
    /// A TUN device `eth0` made inside, 10.0.2.100/24, gateway 10.0.2.2; take its descriptor with
    /// [`crate::Container::take_tun`] and serve it.
    Tun,
}
