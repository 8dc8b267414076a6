package storage

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"
)

// A Quarantiner is a Repository that parts with bytes that aren't what they're
// called, so that the next push of the right ones heals it.
type Quarantiner interface {
	Collectable

	// Quarantine reads the blob d, or the bytes of the manifest d, once more. If they
	// aren't d's, or are gone, d is taken out: it's oci.BlobUnknown, and a manifest
	// oci.ManifestUnknown to Resolve, though the Index has it and tags name it still.
	// It comes again as any blob and manifest does, by a Commit, a MountBlob or an
	// Update that puts it. The bad bytes are kept aside for an operator, and no Commit
	// and no MountBlob of any repository comes by them any more. Of the repositories
	// that share them each has to be asked by itself.
	//
	// What can't be read for another reason stays, and is an error. When Quarantine
	// returns nil, what it did survives a crash.
	Quarantine(ctx context.Context, d digest.Digest) (Outcome, error)

	// Quarantined yields what was taken out and hasn't come again. An error ends the
	// sequence.
	Quarantined(ctx context.Context) iter.Seq2[digest.Digest, error]

	// Vouch tells the repository that what it yielded as c was read and is right. A
	// backend may give the same bytes to others then, if it has lost the means to.
	Vouch(ctx context.Context, c Content) error
}

// Outcome says what Quarantine has done.
type Outcome string

// The outcomes of Quarantine.
const (
	Sound    Outcome = "sound"    // the bytes are right: nothing was done
	Taken    Outcome = "taken"    // d isn't there any more
	Replaced Outcome = "replaced" // other bytes have taken their place, which the store had and are right
)
