//go:build !linux

package vfs

import "errors"

// Space isn't asked for on this system.
func Space(FS) (free, used int64, err error) { return 0, 0, errors.ErrUnsupported }
