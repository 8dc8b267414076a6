package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// sessions breaks every handle on a session.
func sessions(change func(r storage.Repository, u *mutantUpload)) func(*mutant) {
	return func(m *mutant) {
		m.upload = func(r storage.Repository, u storage.Upload) storage.Upload {
			broken := &mutantUpload{Upload: u}
			change(r, broken)
			return broken
		}
	}
}

func sessionBreakages() map[string]breakage {
	return map[string]breakage{
		"sessions are of any repository": {func(m *mutant) {
			var homes sync.Map
			m.begin = func(r storage.Repository, opts storage.UploadOptions) (storage.Upload, error) {
				u, err := r.NewUpload(ctx, opts)
				if err == nil {
					homes.Store(u.ID(), r)
				}
				return u, err
			}
			m.resume = func(r storage.Repository, id string) (storage.Upload, error) {
				if home, ok := homes.Load(id); ok {
					r, _ = home.(storage.Repository)
				}
				return r.ResumeUpload(ctx, id)
			}
		}, []string{"Repository: a session belongs to one repository"}},
		"an unknown session begins": {func(m *mutant) {
			m.resume = func(r storage.Repository, id string) (storage.Upload, error) {
				u, err := r.ResumeUpload(ctx, id)
				if err != nil {
					return r.NewUpload(ctx, storage.UploadOptions{})
				}
				return u, err
			}
		}, []string{
			"Repository: an unknown session is BlobUploadUnknown", "Upload: Cancel forgets the session and its content",
			"Commit: a session that has ended is BlobUploadUnknown", "Commit: if the content isn't want the session is gone",
		}},
		"resuming begins afresh": {func(m *mutant) {
			m.resume = func(r storage.Repository, id string) (storage.Upload, error) {
				if _, err := r.ResumeUpload(ctx, id); err != nil {
					return nil, err
				}
				return r.NewUpload(ctx, storage.UploadOptions{})
			}
		}, []string{
			"Repository: ResumeUpload returns a session that was begun earlier", "Upload: the session outlives the handle",
			"Upload: several handles on one session may be used", "Commit: it commits what several handles have appended",
		}},
		"there is one session": {func(m *mutant) {
			var mu sync.Mutex
			one := make(map[oci.Name]storage.Upload)
			m.begin = func(r storage.Repository, opts storage.UploadOptions) (storage.Upload, error) {
				mu.Lock()
				defer mu.Unlock()
				if u := one[r.Name()]; u != nil {
					return u, nil
				}
				u, err := r.NewUpload(ctx, opts)
				one[r.Name()] = u
				return u, err
			}
		}, []string{"Repository: sessions are told apart", "Upload: ID is unguessable, and safe in a URL path"}},
		"IDs are short": {sessions(func(_ storage.Repository, u *mutantUpload) {
			u.id = func() string { return u.Upload.ID()[:8] }
		}), []string{"Upload: ID is unguessable, and safe in a URL path"}},
		"Size isn't what is there": {sessions(func(_ storage.Repository, u *mutantUpload) {
			u.size = func() int64 { return max(0, u.Upload.Size()-1) }
		}), []string{"Upload: Size is how many bytes the handle last saw"}},
		"the hint is a limit": {func(m *mutant) {
			m.begin = func(r storage.Repository, opts storage.UploadOptions) (storage.Upload, error) {
				u, err := r.NewUpload(ctx, opts)
				if err != nil || opts.Size == 0 {
					return u, err
				}
				return &mutantUpload{Upload: u, append: func(ctx context.Context, offset int64, in io.Reader) (int64, error) {
					return u.Append(ctx, offset, io.LimitReader(in, opts.Size))
				}}, nil
			}
		}, []string{"Repository: the size of a session is a hint and no promise"}},
		"Cancel does nothing": {sessions(func(_ storage.Repository, u *mutantUpload) {
			u.cancel = func() error { return nil }
		}), []string{"Upload: Cancel forgets the session and its content", "Upload: Cancel ends an append that runs"}},
		"Cancel of an ended session fails": {sessions(func(r storage.Repository, u *mutantUpload) {
			u.cancel = func() error {
				if _, err := r.ResumeUpload(ctx, u.ID()); err != nil {
					return err
				}
				return u.Upload.Cancel(ctx)
			}
		}), []string{"Upload: Cancel is a no-op once the session has ended", "Commit: if the content isn't want the session is gone"}},
		"Close cancels": {sessions(func(_ storage.Repository, u *mutantUpload) {
			u.close = func() error { return u.Upload.Cancel(ctx) }
		}), []string{"Upload: Close releases the handle and the session stays", "Upload: the session outlives the handle"}},
		"a session is a blob at once": {sessions(func(r storage.Repository, u *mutantUpload) {
			u.append = func(ctx context.Context, offset int64, in io.Reader) (int64, error) {
				var b bytes.Buffer
				n, err := u.Upload.Append(ctx, offset, io.TeeReader(in, &b))
				_, _ = storage.PutBlob(ctx, r, digest.FromBytes(b.Bytes()), &b, storage.UploadOptions{})
				return n, err
			}
		}), []string{"Upload: what a session holds is no blob before it's committed", "PutBlob: content that stops early stores nothing"}},
	}
}

func appendBreakages() map[string]breakage {
	appends := func(change func(r storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error)) func(*mutant) {
		return sessions(func(r storage.Repository, u *mutantUpload) {
			u.append = func(ctx context.Context, offset int64, in io.Reader) (int64, error) {
				return change(r, u.Upload, ctx, offset, in)
			}
		})
	}
	return map[string]breakage{
		"Append ignores the offset": {appends(func(r storage.Repository, u storage.Upload, ctx context.Context, _ int64, in io.Reader) (int64, error) {
			now, err := r.ResumeUpload(ctx, u.ID())
			if err != nil {
				return 0, err
			}
			n, err := u.Append(ctx, now.Size(), in)
			return n, errors.Join(err, now.Close())
		}), []string{
			"Append: an offset that isn't the end is a range error", "Append: nothing is read at a wrong offset",
			"Append: of several that claim one offset one wins", "Append: of several that claim an offset in the middle one wins",
			"Append: a negative offset is a range error if the session has moved",
			"Append: an append begun later at a wrong offset doesn't",
		}},
		"Append reads first": {appends(func(_ storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			b, err := io.ReadAll(in)
			if err != nil {
				return u.Size(), err
			}
			return u.Append(ctx, offset, bytes.NewReader(b))
		}), []string{
			"Append: nothing is read at a wrong offset",
			"Append: what was read before the reader failed stays",
		}},
		"Append takes turns": {func(m *mutant) {
			var turn sync.Mutex
			sessions(func(_ storage.Repository, u *mutantUpload) {
				u.append = func(ctx context.Context, offset int64, in io.Reader) (int64, error) {
					turn.Lock()
					defer turn.Unlock()
					return u.Upload.Append(ctx, offset, in)
				}
			})(m)
		}, []string{
			"Append: an append begun later takes the session over",
			"Append: an append that lost the session ends with a range error even idle",
		}},
		"who lost the session isn't told": {appends(func(_ storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			read := &countReader{Reader: in}
			n, err := u.Append(ctx, offset, read)
			if read.calls > 0 && errors.Is(err, oci.BlobUploadInvalid) {
				err = nil
			}
			return n, err
		}), []string{
			"Append: an append begun later takes the session over",
			"Append: an append that lost the session ends with a range error even idle",
		}},
		"who lost the session goes on": {appends(func(r storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			read := &countReader{Reader: in}
			n, err := u.Append(ctx, offset, read)
			if read.calls > 0 && errors.Is(err, oci.BlobUploadInvalid) {
				if now, e := r.ResumeUpload(ctx, u.ID()); e == nil {
					_, _ = now.Append(ctx, -1, io.MultiReader(bytes.NewReader(read.last), in))
				}
			}
			return n, err
		}), []string{"Append: an append begun later takes the session over"}},
		"who claims late breaks what runs": {func(m *mutant) {
			var mu sync.Mutex
			cancels := make(map[string]context.CancelFunc)
			sessions(func(_ storage.Repository, u *mutantUpload) {
				u.append = func(parent context.Context, offset int64, in io.Reader) (int64, error) {
					mine, cancel := context.WithCancel(parent)
					defer cancel()
					mu.Lock()
					if other := cancels[u.ID()]; other != nil {
						other()
					}
					cancels[u.ID()] = cancel
					mu.Unlock()
					return u.Upload.Append(mine, offset, in)
				}
			})(m)
		}, []string{"Append: an append begun later at a wrong offset doesn't"}},
		"a wrong offset is a bad request": {appends(func(_ storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			n, err := u.Append(ctx, offset, in)
			if errors.Is(err, oci.BlobUploadInvalid) {
				err = oci.Errorf(oci.BlobUploadInvalid, "offset")
			}
			return n, err
		}), []string{"Append: an offset that isn't the end is a range error"}},
		"negative is nothing": {appends(func(_ storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			return u.Append(ctx, max(0, offset), in)
		}), []string{"Append: a negative offset stands for the size the handle has seen"}},
		"Append begins afresh": {appends(func(r storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			n, err := u.Append(ctx, offset, io.LimitReader(in, 2))
			return n, err
		}), []string{
			"Append: it adds to the end of the session",
			"Append: bytes come in pieces of any size",
		}},
		"Append wants something": {appends(func(_ storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			read := &countReader{Reader: in}
			n, err := u.Append(ctx, offset, read)
			if err == nil && len(read.last) == 0 {
				err = oci.Errorf(oci.SizeInvalid, "empty")
			}
			return n, err
		}), []string{"Append: it adds nothing if there's nothing to read"}},
		"an ended session is a range error": {appends(func(_ storage.Repository, u storage.Upload, ctx context.Context, offset int64, in io.Reader) (int64, error) {
			n, err := u.Append(ctx, offset, in)
			if errors.Is(err, oci.BlobUploadUnknown) {
				err = oci.RangeErrorf("ended")
			}
			return n, err
		}), []string{"Append: a session that has ended is BlobUploadUnknown", "Upload: Cancel forgets the session and its content"}},
	}
}

// countReader counts its reads and keeps what it has read last.
type countReader struct {
	io.Reader

	calls int
	last  []byte
}

func (c *countReader) Read(p []byte) (int, error) {
	c.calls++
	n, err := c.Reader.Read(p)
	if n > 0 {
		c.last = bytes.Clone(p[:n])
	}
	return n, err
}

// pretend says that d was committed.
func pretend(d digest.Digest) (oci.Descriptor, error) {
	return oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: 3}, nil
}

func commitBreakages() map[string]breakage {
	commits := func(change func(r storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error)) func(*mutant) {
		return sessions(func(r storage.Repository, u *mutantUpload) {
			u.commit = func(want digest.Digest) (oci.Descriptor, error) { return change(r, u.Upload, want) }
		})
	}
	return map[string]breakage{
		"Commit takes the digest on trust": {commits(func(_ storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			desc, err := u.Commit(ctx, want)
			if errors.Is(err, oci.DigestInvalid) {
				return pretend(want)
			}
			return desc, err
		}), []string{
			"Commit: if the content isn't want the error is DigestInvalid", "PutBlob: content that doesn't match is DigestInvalid",
			"Repository: a repository holds blobs, found by digest and never changed",
		}},
		"Commit stores what came, whatever was wanted": {commits(func(r storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			desc, err := u.Commit(ctx, want)
			if errors.Is(err, oci.DigestInvalid) {
				_, _ = storage.PutBlob(ctx, r, digest.FromString("abc"), bytes.NewReader([]byte("abc")), storage.UploadOptions{})
			}
			return desc, err
		}), []string{"Commit: if the content isn't want the error is DigestInvalid"}},
		"Commit of wrong content keeps the session": {sessions(func(_ storage.Repository, u *mutantUpload) {
			var content bytes.Buffer
			u.append = func(ctx context.Context, offset int64, in io.Reader) (int64, error) {
				return u.Upload.Append(ctx, offset, io.TeeReader(in, &content))
			}
			u.commit = func(want digest.Digest) (oci.Descriptor, error) {
				if got := want.Algorithm().FromBytes(content.Bytes()); got != want {
					return oci.Descriptor{}, oci.Errorf(oci.DigestInvalid, "%s", got)
				}
				return u.Upload.Commit(ctx, want)
			}
		}), []string{"Commit: if the content isn't want the session is gone"}},
		"Commit knows one algorithm": {commits(func(_ storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			if want.Algorithm() != digest.SHA256 {
				return oci.Descriptor{}, oci.Errorf(oci.DigestInvalid, "%s", want)
			}
			return u.Commit(ctx, want)
		}), []string{
			"Commit: it accepts a digest of another algorithm", "Commit: it hashes with the algorithm the session was begun with",
			"PutBlob: it stores content in one go, of any algorithm",
		}},
		"Commit wants content": {commits(func(_ storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			if want == want.Algorithm().FromString("") {
				return oci.Descriptor{}, oci.Errorf(oci.SizeInvalid, "empty")
			}
			return u.Commit(ctx, want)
		}), []string{"Commit: it makes an empty session the empty blob", "Reader: StatBlob describes a blob"}},
		"a blob that's there can't be committed": {commits(func(r storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			if _, err := r.StatBlob(ctx, want); err == nil {
				return oci.Descriptor{}, oci.Errorf(oci.BlobUploadInvalid, "exists")
			}
			return u.Commit(ctx, want)
		}), []string{
			"Commit: committing a blob that's there already is no error",
		}},
		"Commit is done by all": {commits(func(r storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			desc, err := u.Commit(ctx, want)
			if errors.Is(err, oci.BlobUploadUnknown) {
				return pretend(want)
			}
			return desc, err
		}), []string{"Commit: of several commits at once one does the work", "Commit: a session that has ended is BlobUploadUnknown"}},
		"Commit does nothing": {commits(func(_ storage.Repository, _ storage.Upload, want digest.Digest) (oci.Descriptor, error) {
			return pretend(want)
		}), []string{
			"Commit: it makes the content the blob",
			"Commit: when it returns nil the blob can be read",
			"Repository: NewUpload begins an upload session",
			"Commit: an append that still runs can't change what it made",
			"Commit: it commits what several handles have appended",
		}},
		"Commit of what is being committed fails": {func(m *mutant) {
			var busy sync.Map
			commits(func(_ storage.Repository, u storage.Upload, want digest.Digest) (oci.Descriptor, error) {
				if _, there := busy.LoadOrStore(want, u); there {
					return oci.Descriptor{}, fmt.Errorf("%s is being committed", want)
				}
				return u.Commit(ctx, want)
			})(m)
		}, []string{"Commit: many sessions may commit one blob at once"}},
		"blobs have more than their content": {func(m *mutant) {
			m.open = func(r storage.Repository, d digest.Digest) (*storage.Blob, error) {
				b, err := r.OpenBlob(ctx, d)
				if err == nil {
					b.ReadSeekCloser = more{io.MultiReader(b.ReadSeekCloser, strings.NewReader("XYZ")), b.ReadSeekCloser}
				}
				return b, err
			}
		}, []string{
			"Commit: it makes the content the blob",
			"GetManifest: ReadManifest reads and parses a manifest",
		}},
	}
}

type more struct {
	io.Reader
	io.Seeker
}

func (more) Close() error { return nil }
