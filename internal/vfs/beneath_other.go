//go:build !linux

package vfs

import "errors"

func openBeneath(string) (paths, error) { return nil, errors.ErrUnsupported }
