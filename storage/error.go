package storage

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// What a store can't do now and may do later. No client is to blame, so these
// aren't errors of package oci; a server answers 5xx and says no more.
var (
	// ErrFull: the medium has no room. What was acknowledged stands, and reading
	// and deleting go on. 507.
	ErrFull = errors.New("storage: no space left")

	// ErrStandby: this process only reads. Another one writes here, until it's gone;
	// or what's here isn't what was opened. 503.
	ErrStandby = errors.New("storage: this process may not write here")

	// ErrBroken: the repository's names can't be read. Its last good state is
	// served if there's one, and nothing is changed until an operator restores it. 503.
	ErrBroken = errors.New("storage: the repository's index is unreadable")

	// ErrUnavailable: what the store is on doesn't answer, or fails. 503.
	ErrUnavailable = errors.New("storage: unavailable")

	// ErrClosed: the store was closed. 503.
	ErrClosed = errors.New("storage: closed")
)

// MissingError is the error of an Update whose Edit requires what isn't there:
// oci.ManifestBlobUnknown, each digest in Detail.
func MissingError(missing ...digest.Digest) error {
	type detail struct {
		Digest digest.Digest `json:"digest"`
	}
	details := make([]detail, len(missing))
	for i, d := range missing {
		details[i].Digest = d
	}
	err := oci.Errorf(oci.ManifestBlobUnknown, "%d not in this repository, first %s", len(missing), missing[0])
	if oe, ok := errors.AsType[*oci.Error](err); ok {
		oe.Detail = details
	}
	return err
}
