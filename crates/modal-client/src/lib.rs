//! Client for Modal's control plane: apps, images, volumes, secrets and sandboxes, over gRPC.
