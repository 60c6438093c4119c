// Package integrity knows digests of bodies: the algorithms by which registries
// name them, the paths and header fields that carry them, and how a body is held
// to them while it passes. It knows no cache and no registry.
package integrity
