//! Modal's API served from this machine: state, image builds, volumes and sandboxes for real.
