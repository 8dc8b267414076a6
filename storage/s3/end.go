package s3

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// maxInlineBlob is how large a blob may be that lives in a record, in bytes.
const maxInlineBlob = 4 << 10

// Commit implements storage.Upload.
func (u *upload) Commit(ctx context.Context, want digest.Digest) (oci.Descriptor, error) {
	known, done, err := u.session.repository.enter()
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer done()
	s := u.session
	if err := s.lock(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	defer s.unlock()
	if s.ended {
		return oci.Descriptor{}, unknownUpload(s.id.text)
	}
	if err := s.settle(); err != nil {
		return oci.Descriptor{}, err
	}
	written := time.Now()
	e, own, err := s.object(ctx, want)
	if errors.Is(err, oci.DigestInvalid) {
		return oci.Descriptor{}, errors.Join(err, s.discard(ctx))
	}
	if err != nil {
		return oci.Descriptor{}, err
	}
	if !own { // the session's record names it
		written = s.at
	}
	added, err := known.addBlob(ctx, change{Blob: want, Session: s.id.text, entry: e}, s.by, written)
	if err != nil {
		return oci.Descriptor{}, fmt.Errorf("commit an upload: %w", err)
	}
	s.tidy(ctx, e, own && !added)
	return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: want, Size: s.size}, nil
}

// tidy ends a session that is a blob now, and removes what isn't needed. What
// can't be removed is swept some time. Only bytes that no other process ever
// knew of go at once.
func (s *session) tidy(ctx context.Context, e entry, unneeded bool) {
	s.over()
	var keys []string
	if s.etag != "" {
		keys = append(keys, s.key())
	}
	if unneeded && !e.inline() {
		keys = append(keys, s.repository.store.keys.data(e.ID))
	}
	if len(keys) > 0 {
		_ = s.repository.store.bucket.remove(ctx, keys...)
	}
}

func (s *session) over() {
	s.ended = true
	s.content.drop()
	s.repository.store.sessions.end(s.id.text)
}

// object makes one of the content, which must be want. own is whether no other
// process can know of it.
func (s *session) object(ctx context.Context, want digest.Digest) (e entry, own bool, err error) {
	a, err := oci.ParseAlgorithm(want.Algorithm().String())
	if err == nil {
		err = want.Validate()
	}
	if err != nil {
		return entry{}, false, oci.Errorf(oci.DigestInvalid, "%w", err)
	}
	if a == s.id.algorithm {
		if err := same(want, digest.NewDigest(a, s.hash)); err != nil {
			return entry{}, false, err
		}
	}
	if len(s.content.parts) > 0 {
		e, err = s.assemble(ctx, want)
		return e, false, err
	}
	if rests := s.content.rests; len(rests) == 1 && len(s.content.buf) == 0 && a == s.id.algorithm {
		return rests[0], false, nil
	}
	e, err = s.putWhole(ctx, want)
	return e, true, err
}

func same(want, got digest.Digest) error {
	if got != want {
		return oci.Errorf(oci.DigestInvalid, "the content is %s", got)
	}
	return nil
}

// putWhole writes content of which there are no parts.
func (s *session) putWhole(ctx context.Context, want digest.Digest) (entry, error) {
	body, err := s.content.gather(ctx)
	if err != nil {
		return entry{}, err
	}
	if a := want.Algorithm(); a != s.id.algorithm {
		if err := same(want, a.FromBytes(body)); err != nil {
			return entry{}, err
		}
	}
	e := entry{Size: int64(len(body))}
	if len(body) <= maxInlineBlob {
		e.Raw = slices.Clone(body)
		return e, nil
	}
	e.ID = newID()
	put := putRequest{Key: s.repository.store.keys.data(e.ID), Body: body, Blob: true}
	if want.Algorithm() == digest.SHA256 {
		put.Sum, _ = hex.DecodeString(want.Encoded()) // it's a digest
	}
	_, err = s.repository.store.bucket.put(ctx, put)
	return e, err
}

// assemble makes an object of the parts and what follows them. Only one process
// may, since another one's last part may be a different one. So the session ends
// here for everybody else, whatever comes of it.
func (s *session) assemble(ctx context.Context, want digest.Digest) (entry, error) {
	c, b := &s.content, s.repository.store.bucket
	last, err := c.gather(ctx)
	if err != nil {
		return entry{}, err
	}
	ended := s.rec
	ended.Ended = true
	if err := s.write(ctx, ended); err != nil {
		return entry{}, s.overtaken(ctx, err)
	}
	key, parts := s.repository.store.keys.data(s.rec.Data), slices.Clone(c.parts)
	if len(last) > 0 {
		etag, err := b.part(ctx, key, s.rec.Upload, c.next, last)
		if err != nil {
			return entry{}, errors.Join(err, s.discard(ctx))
		}
		parts = append(parts, part{c.next, etag})
	}
	if err := b.complete(ctx, key, s.rec.Upload, parts); err != nil {
		return entry{}, errors.Join(err, s.discard(ctx))
	}
	e := entry{ID: s.rec.Data, Size: s.size}
	if a := want.Algorithm(); a != s.id.algorithm {
		return e, s.readBack(ctx, e, want)
	}
	return e, nil
}

// readBack hashes an object by an algorithm that its session didn't hash with.
func (s *session) readBack(ctx context.Context, e entry, want digest.Digest) error {
	h := want.Algorithm().Hash()
	n, err := io.Copy(h, s.repository.content(ctx, want, e))
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if n != e.Size {
		return fmt.Errorf("read back %d bytes of %d", n, e.Size)
	}
	return same(want, digest.NewDigest(want.Algorithm(), h))
}

// Cancel implements storage.Upload.
func (u *upload) Cancel(ctx context.Context) error {
	done, err := u.store().begin()
	if err != nil {
		return err
	}
	defer done()
	s := u.session
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.ended {
		return nil
	}
	_ = s.settle() // nobody wants it any more
	return s.discard(ctx)
}

// discard ends the session for everybody. Its bytes stay until they're swept: a
// process that commits it at this moment may be about to name them.
func (s *session) discard(ctx context.Context) error {
	s.over()
	ended := sessionRecord{
		Repository: s.repository.name.String(), Algorithm: s.id.algorithm, Write: newID(),
		Ended: true, Data: s.rec.Data, Upload: s.rec.Upload,
	}
	body, err := json.Marshal(ended)
	if err != nil {
		return err
	}
	b := s.repository.store.bucket
	if _, err := b.put(ctx, putRequest{Key: s.key(), Body: body}); err != nil {
		return fmt.Errorf("end an upload: %w", err)
	}
	if s.rec.Upload == "" {
		return nil
	}
	return b.abort(ctx, s.repository.store.keys.data(s.rec.Data), s.rec.Upload)
}
