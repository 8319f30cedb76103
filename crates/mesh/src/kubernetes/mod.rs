//! What the mesh side needs of a Kubernetes API.
