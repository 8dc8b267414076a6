package storage

import "context"

// A Redirector is the content of a Blob that clients can fetch from somewhere
// else. As finds it in the Blob's ReadSeekCloser: who may open a blob may send a
// client there.
type Redirector interface {
	// Redirect returns a URL at which anybody who knows it may GET the content for
	// a while, all of it or one range. It's empty if the content is to be served
	// from here. The content stays there for as long, whatever becomes of the blob.
	Redirect(ctx context.Context) (url string, err error)
}
