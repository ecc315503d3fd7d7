//! User-space network of a sandbox: outbound policy, DNS and address translation over a TUN device.
