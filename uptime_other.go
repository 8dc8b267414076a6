//go:build !linux

package ociregistry

import "time"

// uptime returns nil: there's none that is better than Go's own.
func uptime() func() time.Duration { return nil }
