// Package storage says what a registry's content is and how it changes:
// content is immutable and found by digest; names are mutable, and change only
// through Update. The backends are in the folders below; each keeps this
// contract, which storagetest checks sentence by sentence.
package storage

import (
	"context"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// A Store is a set of repositories. It is safe for concurrent use.
type Store interface {
	// Repository returns the repository called name. It does no I/O and can't
	// fail: reading one that doesn't exist gives oci.NameUnknown (of a blob,
	// oci.BlobUnknown), writing creates it.
	Repository(name oci.Name) Repository

	// Repositories yields the names of the repositories that exist, in the order
	// of Name.Compare, beginning after the name given. An error ends the sequence.
	// A repository exists from its first committed blob or manifest on.
	Repositories(ctx context.Context, after oci.Name) iter.Seq2[oci.Name, error]

	// Ready returns nil if the store can be read and written now, else why not:
	// ErrStandby, ErrFull, or what the medium says. It is cheap enough to be
	// asked every second.
	Ready(ctx context.Context) error

	// Close waits for what's in progress, makes durable what isn't, and releases
	// the store. What is called afterwards fails.
	Close() error
}

// A Reader is the half of a Repository that changes no content.
type Reader interface {
	// Name returns the repository's name.
	Name() oci.Name

	// StatBlob describes a blob of this repository: media type
	// application/octet-stream, digest and size. A blob that isn't there is
	// oci.BlobUnknown. Asking takes a garbage collector's mark off the blob, so
	// who was told that it's there may rely on it for the collector's grace.
	StatBlob(ctx context.Context, d digest.Digest) (oci.Descriptor, error)

	// OpenBlob opens a blob for reading; the caller closes it. Else as StatBlob.
	// The manifests of a repository are blobs of it too.
	OpenBlob(ctx context.Context, d digest.Digest) (*Blob, error)

	// Resolve finds what a tag or digest names, or oci.ManifestUnknown. A manifest
	// exists if it was put. In what another tool wrote, one that only an image
	// index lists exists too, if its bytes are there: some list only the top.
	// It may do I/O that Index.Resolve doesn't, so of the two it's the one for a
	// single lookup.
	Resolve(ctx context.Context, ref oci.Reference) (oci.Descriptor, error)

	// Referrers yields, in order of digest and beginning after the digest given,
	// the manifests whose subject is this digest. There need not be a manifest of
	// that digest.
	Referrers(ctx context.Context, subject, after digest.Digest) (iter.Seq[Referrer], error)

	// Index returns what all the names of the repository mean at this moment.
	Index(ctx context.Context) (Index, error)
}

// A Repository holds blobs, found by digest and never changed, and one Index,
// which says what its tags and manifests are. Blobs come in through an Upload
// or a mount; the Index changes through Update, and no other way.
type Repository interface {
	Reader

	// NewUpload begins an upload session.
	NewUpload(ctx context.Context, opts UploadOptions) (Upload, error)

	// ResumeUpload returns a session of this repository that was begun earlier,
	// by any process, or oci.BlobUploadUnknown.
	ResumeUpload(ctx context.Context, id string) (Upload, error)

	// MountBlob makes a blob of the repository from one of this one too, without
	// copying its bytes where the backend can. oci.BlobUnknown if from hasn't got it.
	// Whether the caller may read from is the caller's to know.
	MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error)

	// Update calls fn with the current index and stores the changes that fn makes
	// to it, all or none. If fn fails, Update returns its error and changes
	// nothing. Updates of one repository happen one after another, across
	// processes too. fn may be called more than once (a backend that finds its
	// base has moved tries again), so it has no other effect; it doesn't block
	// and doesn't call the store. If something that the Edit requires isn't
	// there, Update changes nothing and fails with oci.ManifestBlobUnknown,
	// naming each missing digest in Detail.
	//
	// When Update returns nil, the change, the bytes of every manifest it put and
	// all it requires survive a crash. Once it is under way it isn't interrupted
	// by ctx.
	Update(ctx context.Context, fn func(*Edit) error) error
}

// Blob is an open blob.
type Blob struct {
	// Its Size is that of what was opened, whatever was expected.
	oci.Descriptor

	// On a file system it's the bare *os.File, so that a server can hand it to sendfile.
	io.ReadSeekCloser
}

// UploadOptions say what a session will be.
type UploadOptions struct {
	// By is the identity that pushes. Default: empty, anonymous.
	By string

	// Algorithm hashes the content while it arrives. Default: sha256. Commit
	// accepts a digest of another one, but has to read everything back.
	Algorithm digest.Algorithm

	// Size is how many bytes are going to be added, or 0 if that isn't known.
	// It's a hint: for early refusals, never a promise.
	Size int64
}

// An Upload is a handle on a blob upload session. The session outlives the
// handle and the process, and belongs to one repository. Several handles on
// one session may be used at once. A process that is killed may take along
// small sessions that somebody was on within the second before.
type Upload interface {
	// ID is unguessable, and safe in a URL path.
	ID() string

	// Size is how many bytes the session holds, as this handle last saw it.
	Size() int64

	// Append adds r to the end of the session. An offset that isn't negative must
	// be where the session ends, or nothing is read and the error is a range
	// error (oci.RangeErrorf); negative stands for the Size this handle has seen.
	// An Append begun while another one runs takes the session over if its
	// offset is right; the other one then ends with a range error, and nothing
	// that it reads afterwards is kept. So of several that claim one offset one wins.
	//
	// What was read before r failed stays, and Size counts it.
	Append(ctx context.Context, offset int64, r io.Reader) (size int64, err error)

	// Commit ends the session, making its content the blob want. If the content
	// isn't want, the error is oci.DigestInvalid and the session is gone with
	// its content. When Commit returns nil the blob can be read; it survives a
	// crash once an Update that requires it has returned. Committing a blob
	// that's there already is no error. Of several Commits at once one does the
	// work; a session that has ended is oci.BlobUploadUnknown. An Append that is
	// still reading has lost the session, and isn't waited for.
	Commit(ctx context.Context, want digest.Digest) (oci.Descriptor, error)

	// Cancel forgets the session and its content; a no-op once it has ended.
	Cancel(ctx context.Context) error

	// Close releases the handle; the session stays. Other processes may not see what
	// was appended before the handle is closed; an error says that they won't.
	Close() error
}

// A Referrer is a manifest that has a subject, as a list of referrers has it.
type Referrer struct {
	Digest       digest.Digest
	ArtifactType string // empty if it has none

	// JSON is the manifest's oci.Descriptor as json.Marshal writes it, with artifact
	// type and annotations as distribution-spec "Listing Referrers" wants them.
	// Lists have thousands, which are encoded once and sent often.
	JSON string
}

// An Index is what a repository's names meant at one moment. It holds its
// data: its methods do no I/O, and any number of goroutines may use it.
type Index interface {
	// Resolve is Reader.Resolve at that moment.
	Resolve(ref oci.Reference) (oci.Descriptor, error)

	// Tags yields the tags in byte order, beginning after the tag given, with the
	// manifests they name.
	Tags(after oci.Tag) iter.Seq2[oci.Tag, oci.Descriptor]

	// Manifests yields every manifest that Resolve finds by digest, once, in order of digest.
	Manifests() iter.Seq[oci.Descriptor]

	// Referrers is Reader.Referrers at that moment.
	Referrers(subject, after digest.Digest) iter.Seq[Referrer]

	// Parents yields the digests of the image indexes that list this manifest.
	Parents(d digest.Digest) iter.Seq[digest.Digest]
}
