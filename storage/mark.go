package storage

import (
	"context"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Collectable is a Repository from which garbage can be collected while it
// serves. What nothing needs is marked, and goes when a mark has been on it for
// a grace without interruption. The mark is a fact, kept with the content: who
// loses it, as by a copy that lacks it, begins the grace anew.
//
// A mark is taken off, durably and before the answer, by who is told that the
// content is there and so may rely on it: StatBlob, OpenBlob and Resolve by
// digest; a Commit or MountBlob that finds it there already; and an Update that
// puts it, tags it or requires it. So a client that was told "you needn't send
// this" has the grace to send what names it. A Store that can't write now
// leaves marks where they are.
type Collectable interface {
	Repository

	// Contents yields each blob that the repository holds, the bytes of its
	// manifests among them, in no particular order. It takes no mark off. One that
	// comes or goes meanwhile may be left out. An error ends the sequence.
	Contents(ctx context.Context) iter.Seq2[Content, error]

	// Peek is OpenBlob that takes no mark off: for who looks without being about
	// to rely on what is there.
	Peek(ctx context.Context, d digest.Digest) (*Blob, error)

	// Retire makes a repository that holds nothing, neither a blob nor a manifest,
	// be as if it had never been; false if it holds something. It takes part in
	// the order of Updates, and what comes afterwards makes the repository anew.
	Retire(ctx context.Context) (bool, error)
}

// Content is a blob as a collector sees it.
type Content struct {
	Digest digest.Digest

	// Size is in bytes.
	Size int64

	// Marked is since when a mark has been on it; zero if there's none.
	Marked time.Time

	// Object says where its bytes lie, in the backend's own terms: content that has
	// the same one, in whatever repository, is the same bytes. Empty if that isn't known.
	Object string
}

// A Sweeper is a Store with garbage that lies in no repository: upload sessions
// that nobody has touched for long, bytes that no repository has, what a crash
// has left.
type Sweeper interface {
	// Sweep yields each thing that nobody has used since opts.Before, and removes it
	// once the loop's body has returned, unless opts.Dry. An error says that one thing
	// couldn't be looked at or removed; the sequence goes on. It ends when ctx does.
	Sweep(ctx context.Context, opts SweepOptions) iter.Seq2[Swept, error]
}

// SweepOptions say what is swept, and how fast.
type SweepOptions struct {
	// Before is since when nobody has used what is swept.
	Before time.Time

	// Dry removes nothing, and changes nothing else.
	Dry bool

	// Wait is called before n units of I/O by which nothing is removed that is yielded,
	// each an object that's read or changed; with 0, for one that only gives way. Its
	// error ends the sweep. Several goroutines may call it. Default: nobody waits.
	Wait func(ctx context.Context, n int) error
}

// Swept is a thing that Sweep removes.
type Swept struct {
	Kind SweptKind

	// Name says which one, in the backend's own terms: an upload session's ID, a path, a key.
	Name string

	// Size is how many bytes are gained, as far as that's known.
	Size int64
}

// SweptKind says what is swept.
type SweptKind string

// The kinds of things that are swept.
const (
	SweptUpload   SweptKind = "upload"   // an upload session that was given up
	SweptBlob     SweptKind = "blob"     // bytes that no repository has
	SweptLeftover SweptKind = "leftover" // what a crash, or another tool, has left
)
