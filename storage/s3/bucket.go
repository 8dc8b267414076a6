package s3

import (
	"context"
	"errors"
	"io"
	"time"
)

// A bucket is what is asked of an object store. A write that has been answered is
// seen by every read that begins afterwards. An error of its methods wraps one of
// those below, or trying again is of no use.
type bucket interface {
	reader
	writer
	multipart
	unfinished
	linker
	settings
}

type reader interface {
	// get reads an object; the caller closes its body.
	get(ctx context.Context, what getRequest) (*gotten, error)

	// stat says what is at a key.
	stat(ctx context.Context, key string) (listed, error)

	// list returns up to 1,000 keys that begin with prefix and come after another
	// one, in byte order, and whether there are more.
	list(ctx context.Context, prefix, after string) (page []listed, more bool, err error)
}

type writer interface {
	// put writes an object, and returns its etag. After an error it may have been
	// written nevertheless, or still be going to be.
	put(ctx context.Context, what putRequest) (etag string, err error)

	// remove removes up to 1,000 objects; one that isn't there is no error.
	remove(ctx context.Context, keys ...string) error
}

// multipart is how an object comes into being that is too large for one put.
type multipart interface {
	// begin returns an ID for the parts of the object that will be at key.
	begin(ctx context.Context, key string) (upload string, err error)

	// part stores part n, from 1 to 10,000, which replaces an earlier one.
	part(ctx context.Context, key, upload string, n int, body []byte) (etag string, err error)

	// complete makes an object of the parts, and forgets those that aren't named.
	complete(ctx context.Context, key, upload string, parts []part) error

	// abort forgets all the parts.
	abort(ctx context.Context, key, upload string) error
}

// unfinished is how multipart uploads are found that nobody knows of any more.
type unfinished interface {
	// begun returns up to 1,000 of those of keys that begin with prefix, and
	// whether there are more, which come after the last one. Some stores tell of none.
	begun(ctx context.Context, prefix string, after begun) (page []begun, more bool, err error)
}

// linker lets others read.
type linker interface {
	// link returns a URL at which anybody may get an object for as long as life. It
	// asks nobody, but for credentials that have run out.
	link(ctx context.Context, key string, life time.Duration) (url string, err error)
}

// begun is a multipart upload that isn't finished.
type begun struct {
	Key, Upload string
	At          time.Time
}

// getRequest says what to read. Length 0 is all from Offset on.
type getRequest struct {
	Key         string
	IfNoneMatch string // an etag: errNotModified if the object still has it
	Offset      int64
	Length      int64
}

// gotten is an object that's being read.
type gotten struct {
	io.ReadCloser

	ETag string
}

// putRequest says what to write. With a condition it's errConflict unless that holds.
type putRequest struct {
	Key      string
	Body     []byte
	Sum      []byte // sha256 of Body, which the store checks; nil: to be computed
	IfMatch  string // an etag that the object must have; errNotFound if there's none
	IfAbsent bool   // there must be no object
	Blob     bool   // it's content of a blob, that may be kept where it's cheap
}

func (p *putRequest) conditional() bool { return p.IfMatch != "" || p.IfAbsent }

// listed is an object as a list has it.
type listed struct {
	Key      string
	Size     int64
	Modified time.Time
}

// part is a part of a multipart upload.
type part struct {
	Number int    `json:"number"`
	ETag   string `json:"etag"`
}

var (
	errNotFound    = errors.New("s3: no such object")
	errNotModified = errors.New("s3: not modified")
	errConflict    = errors.New("s3: the object isn't what the condition says")
	errSlowDown    = errors.New("s3: slow down")
	errTemporary   = errors.New("s3: failed, and may work later")
	errRefused     = errors.New("s3: refused")
)

// passing reports whether the same call may succeed later. Whether it did
// anything this time isn't known.
func passing(err error) bool { return errors.Is(err, errSlowDown) || errors.Is(err, errTemporary) }
