package storage

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// A PullRecorder is a Reader that remembers when its manifests were last
// pulled, since that decides what is kept.
type PullRecorder interface {
	// RecordPull notes that the manifest d is being pulled now. It doesn't wait
	// for the note to be durable.
	RecordPull(ctx context.Context, d digest.Digest)
}

// RecordPull notes a pull if r, or what it wraps, is a PullRecorder.
func RecordPull(ctx context.Context, r Reader, d digest.Digest) {
	if to, ok := As[PullRecorder](r); ok {
		to.RecordPull(ctx, d)
	}
}
