package scrub

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// ward is a repository in a round.
type ward struct {
	*round

	name       oci.Name
	repository storage.Quarantiner
	contents   []storage.Content // by digest
	graph      *graph            // nil until it's needed
}

// check reads what the repository holds, in order of digest and after the one
// given, and then what its manifests name.
func (w *ward) check(ctx context.Context, after digest.Digest) error {
	var err error
	if w.contents, err = w.list(ctx); err != nil {
		return err
	}
	for _, c := range w.contents {
		if c.Digest <= after || w.isRight(c) {
			continue
		}
		if err := w.checkContent(ctx, c); err != nil {
			return err
		}
		w.at(Place{Repository: w.name, Digest: c.Digest})
	}
	return w.findMissing(ctx)
}

func (w *ward) list(ctx context.Context) ([]storage.Content, error) {
	var all []storage.Content
	for c, err := range w.repository.Contents(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, byDigest)
	return all, nil
}

func byDigest(a, b storage.Content) int { return strings.Compare(string(a.Digest), string(b.Digest)) }

func (w *ward) holds(d digest.Digest) bool {
	_, ok := slices.BinarySearchFunc(w.contents, storage.Content{Digest: d}, byDigest)
	return ok
}

// checkContent reads one thing. Its error is the end of the round.
func (w *ward) checkContent(ctx context.Context, c storage.Content) error {
	right, err := w.read(ctx, c.Digest, io.Discard)
	switch {
	case errors.Is(err, oci.BlobUnknown): // it has gone meanwhile
		return nil
	case err != nil || !right:
		return w.treat(ctx, c, err)
	}
	w.opts.Checked(c.Size)
	w.remember(c)
	if w.opts.DryRun {
		return nil
	}
	if err := w.mayChange(); err != nil {
		return err
	}
	if err := w.repository.Vouch(ctx, c); err != nil { // it costs sharing, never a blob
		return w.ends(ctx, err)
	}
	return nil
}

const (
	// chunk is how much is read at once, in bytes. Requests wait behind it.
	chunk = 256 << 10

	// least is what a file costs that's smaller, in bytes.
	least = 4 << 10
)

// read reports whether the bytes of a blob are right. They're written to to as well.
func (w *ward) read(ctx context.Context, d digest.Digest, to io.Writer) (bool, error) {
	b, err := w.repository.Peek(ctx, d)
	if err != nil {
		return false, err
	}
	defer b.Close()
	v := d.Verifier()
	for left := max(b.Size, least); ; left -= chunk {
		if err := w.opts.Wait(ctx, int(min(max(left, least), chunk))); err != nil {
			return false, errors.Join(errEnd, err)
		}
		n, err := io.ReadFull(b, w.buf)
		_, _ = v.Write(w.buf[:n]) // a hash doesn't fail
		_, _ = to.Write(w.buf[:n])
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return v.Verified(), nil
		case err != nil:
			return false, err
		}
	}
}

// readManifest returns a manifest whose bytes are right.
func (w *ward) readManifest(ctx context.Context, desc oci.Descriptor) (oci.Manifest, error) {
	var raw bytes.Buffer
	right, err := w.read(ctx, desc.Digest, &raw)
	if err == nil && !right {
		err = oci.Errorf(oci.DigestInvalid, "%s", desc.Digest)
	}
	if err != nil {
		return oci.Manifest{}, err
	}
	return oci.ParseManifest(desc.MediaType, raw.Bytes(), desc.Digest.Algorithm())
}

// treat does what can be done about bad bytes, and tells of them. failed is why
// they couldn't be read, if they couldn't.
func (w *ward) treat(ctx context.Context, c storage.Content, failed error) error {
	f := Finding{Fault: Damaged}
	if failed != nil {
		f.Fault, f.Problem = Unreadable, failed.Error()
	}
	if err := w.ends(ctx, failed); err != nil {
		return err
	}
	// As long as there's most of it. Else no tags are known, and findMissing says why.
	if err := w.readGraph(ctx); err != nil {
		if err = w.ends(ctx, err); err != nil {
			return err
		}
	}
	if w.opts.DryRun {
		w.tell(c.Digest, f)
		return nil
	}
	if err := w.mayChange(); err != nil {
		return err
	}
	outcome, err := w.repository.Quarantine(ctx, c.Digest)
	switch {
	case errors.Is(err, oci.BlobUnknown):
		return nil
	case err != nil:
		f.Problem = err.Error()
	case outcome == storage.Sound: // on a second look
		return nil
	default:
		f.Fault, f.Problem = Damaged, ""
		w.wrong[claimOf(c)] = c.Object != ""
	}
	if outcome == storage.Replaced {
		f.Done = Repaired
	}
	var stopped error // as late as this it's no reason not to tell
	if outcome == storage.Taken {
		f.Done = Quarantined
		f.From, stopped = w.search(ctx, c.Digest)
	}
	if f.From != "" {
		f.Done = Repaired
	}
	w.tell(c.Digest, f)
	if stopped != nil {
		return stopped
	}
	return ctx.Err()
}

// tell tells of what is wrong with a digest.
func (w *ward) tell(d digest.Digest, f Finding) {
	f.Kind, f.Repository, f.Name = Blob, w.name.String(), d.String()
	if w.graph != nil {
		if w.graph.isManifest(d) {
			f.Kind = Manifest
		}
		f.Tags, f.MoreTags = w.graph.tags(d)
	}
	w.opts.Found(f)
}
