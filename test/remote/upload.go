//go:build real

package remote

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
)

// Upload is an upload session. It isn't bound to the server that began it.
type Upload struct {
	*Registry

	// Location is the path, with a query, at which the session goes on.
	Location string
}

// StartUpload begins an upload session.
func (r *Repository) StartUpload(ctx context.Context) (*Upload, error) {
	header, err := r.exchange(ctx, http.MethodPost, "/v2/"+r.Name+"/blobs/uploads/", nil)
	if err != nil {
		return nil, err
	}
	u := &Upload{Registry: r.Registry}
	return u, u.follow(header)
}

// follow takes the session's next location from an answer.
func (u *Upload) follow(header http.Header) error {
	next, err := url.Parse(header.Get("Location"))
	if err != nil || next.Path == "" {
		return fmt.Errorf("the answer has the location %q: %w", header.Get("Location"), err)
	}
	u.Location = next.RequestURI()
	return nil
}

// Append adds a chunk that begins at offset.
func (u *Upload) Append(ctx context.Context, offset int, chunk []byte) error {
	header, err := u.exchange(ctx, http.MethodPatch, u.Location, bytes.NewReader(chunk),
		"Content-Type", "application/octet-stream", "Content-Range", fmt.Sprintf("%d-%d", offset, offset+len(chunk)-1))
	if err != nil {
		return err
	}
	return u.follow(header)
}

// Stream adds what r has, as it comes.
func (u *Upload) Stream(ctx context.Context, r io.Reader) error {
	header, err := u.exchange(ctx, http.MethodPatch, u.Location, io.NopCloser(r), "Content-Type", "application/octet-stream")
	if err != nil {
		return err
	}
	return u.follow(header)
}

// Offset asks how many bytes the session has.
func (u *Upload) Offset(ctx context.Context) (int, error) {
	header, err := u.exchange(ctx, http.MethodGet, u.Location, nil)
	if err != nil {
		return 0, err
	}
	if err := u.follow(header); err != nil {
		return 0, err
	}
	var last int
	if _, err := fmt.Sscanf(header.Get("Range"), "0-%d", &last); err != nil {
		return 0, fmt.Errorf("the answer has the range %q: %w", header.Get("Range"), err)
	}
	if last == 0 { // 0-0 is what registries say of one byte, and of none
		return 0, nil
	}
	return last + 1, nil
}

// Commit ends the session with the rest of the content.
func (u *Upload) Commit(ctx context.Context, d digest.Digest, rest []byte) error {
	return u.commit(ctx, d, bytes.NewReader(rest))
}

// CommitFrom is Commit with what r has, as it comes.
func (u *Upload) CommitFrom(ctx context.Context, d digest.Digest, r io.Reader) error {
	return u.commit(ctx, d, io.NopCloser(r))
}

func (u *Upload) commit(ctx context.Context, d digest.Digest, rest io.Reader) error {
	at, err := url.Parse(u.Location)
	if err != nil {
		return err
	}
	query := at.Query()
	query.Set("digest", d.String())
	at.RawQuery = query.Encode()
	_, err = u.exchange(ctx, http.MethodPut, at.String(), rest, "Content-Type", "application/octet-stream")
	return err
}
