package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a bucket in memory that keeps the promises of S3: each call takes
// effect at one moment, conditions are kept, and parts have a least size.
type fake struct {
	setup setup

	page    int // keys in a page of a list
	minPart int // bytes in a part that isn't the last

	mu      sync.Mutex
	objects map[string]object
	uploads map[string]*partial
	serial  int
	calls   map[string]int
	sent    int64 // bytes that were put
	misuse  []error
}

type object struct {
	body     []byte
	etag     string
	modified time.Time
}

// partial is a multipart upload.
type partial struct {
	key   string
	parts map[int]object
	begun time.Time
}

func newFake() *fake {
	return &fake{
		page: 1000, minPart: 5 << 20,
		objects: make(map[string]object), uploads: make(map[string]*partial), calls: make(map[string]int),
	}
}

func (f *fake) enter(call string) func() {
	f.mu.Lock()
	f.calls[call]++
	return f.mu.Unlock
}

// wrong is the answer to a call that should never be made.
func (f *fake) wrong(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	f.misuse = append(f.misuse, err)
	return err
}

// object has an etag that says what the content is, as those of S3 do: what is
// written again is the same.
func (f *fake) object(body []byte) object {
	return object{bytes.Clone(body), fmt.Sprintf(`"%x"`, md5.Sum(body)), time.Now()}
}

func (f *fake) get(_ context.Context, what getRequest) (*gotten, error) {
	defer f.enter("get")()
	o, ok := f.objects[what.Key]
	if !ok {
		return nil, fmt.Errorf("%w: %s", errNotFound, what.Key)
	}
	if what.IfNoneMatch == o.etag {
		return nil, errNotModified
	}
	body := o.body
	if what.Offset > 0 || what.Length > 0 {
		if what.Offset >= int64(len(body)) {
			return nil, f.wrong("range from %d in %d bytes", what.Offset, len(body))
		}
		body = body[what.Offset:]
	}
	if what.Length > 0 {
		body = body[:min(what.Length, int64(len(body)))]
	}
	return &gotten{io.NopCloser(bytes.NewReader(body)), o.etag}, nil
}

func (f *fake) stat(_ context.Context, key string) (listed, error) {
	defer f.enter("stat")()
	o, ok := f.objects[key]
	if !ok {
		return listed{}, fmt.Errorf("%w: %s", errNotFound, key)
	}
	return listed{key, int64(len(o.body)), o.modified}, nil
}

func (f *fake) list(_ context.Context, prefix, after string) (page []listed, more bool, err error) {
	defer f.enter("list")()
	for _, key := range slices.Sorted(maps.Keys(f.objects)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if len(page) == f.page {
			return page, true, nil
		}
		o := f.objects[key]
		page = append(page, listed{key, int64(len(o.body)), o.modified})
	}
	return page, false, nil
}

func (f *fake) put(_ context.Context, what putRequest) (string, error) {
	defer f.enter("put")()
	f.sent += int64(len(what.Body))
	o, ok := f.objects[what.Key]
	switch {
	case what.IfAbsent && ok, what.IfMatch != "" && ok && o.etag != what.IfMatch:
		return "", fmt.Errorf("%w: %s", errConflict, what.Key)
	case what.IfMatch != "" && !ok:
		return "", fmt.Errorf("%w: %s", errNotFound, what.Key)
	}
	if sum := sha256.Sum256(what.Body); what.Sum != nil && !bytes.Equal(sum[:], what.Sum) {
		return "", f.wrong("%s: the content isn't %s", what.Key, hex.EncodeToString(what.Sum))
	}
	o = f.object(what.Body)
	f.objects[what.Key] = o
	return o.etag, nil
}

func (f *fake) remove(_ context.Context, keys ...string) error {
	defer f.enter("remove")()
	if len(keys) == 0 || len(keys) > 1000 {
		return f.wrong("remove %d objects", len(keys))
	}
	for _, k := range keys {
		delete(f.objects, k)
	}
	return nil
}

func (f *fake) begin(_ context.Context, key string) (string, error) {
	defer f.enter("begin")()
	f.serial++
	id := fmt.Sprint("upload-", f.serial)
	f.uploads[id] = &partial{key, make(map[int]object), time.Now()}
	return id, nil
}

func (f *fake) upload(key, id string) (*partial, error) {
	u, ok := f.uploads[id]
	if !ok || u.key != key {
		return nil, fmt.Errorf("%w: upload %s of %s", errNotFound, id, key)
	}
	return u, nil
}

func (f *fake) part(_ context.Context, key, upload string, n int, body []byte) (string, error) {
	defer f.enter("part")()
	f.sent += int64(len(body))
	u, err := f.upload(key, upload)
	if err != nil {
		return "", err
	}
	if n < 1 || n > 10_000 {
		return "", f.wrong("part number %d", n)
	}
	o := f.object(body)
	u.parts[n] = o
	return o.etag, nil
}

func (f *fake) complete(_ context.Context, key, upload string, parts []part) error {
	defer f.enter("complete")()
	u, err := f.upload(key, upload)
	if err != nil {
		return err
	}
	var body []byte
	for i, p := range parts {
		o, ok := u.parts[p.Number]
		if !ok || o.etag != p.ETag || i > 0 && p.Number <= parts[i-1].Number {
			return f.wrong("part %d of %s isn't what was said", p.Number, key)
		}
		if i < len(parts)-1 && len(o.body) < f.minPart {
			return f.wrong("part %d of %s has %d bytes", p.Number, key, len(o.body))
		}
		body = append(body, o.body...)
	}
	delete(f.uploads, upload)
	o := f.object(body)
	o.modified = u.begun // as AWS has it
	f.objects[key] = o
	return nil
}

func (f *fake) abort(_ context.Context, key, upload string) error {
	defer f.enter("abort")()
	if _, err := f.upload(key, upload); err != nil {
		return err
	}
	delete(f.uploads, upload)
	return nil
}

func (f *fake) begun(_ context.Context, prefix string, after begun) (page []begun, more bool, err error) {
	defer f.enter("begun")()
	for id, u := range f.uploads {
		if strings.HasPrefix(u.key, prefix) && (u.key > after.Key || u.key == after.Key && id > after.Upload) {
			page = append(page, begun{u.key, id, u.begun})
		}
	}
	slices.SortFunc(page, func(a, b begun) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Upload, b.Upload))
	})
	if len(page) > f.page {
		return page[:f.page], true, nil
	}
	return page, false, nil
}

func (f *fake) link(_ context.Context, key string, life time.Duration) (string, error) {
	return fmt.Sprint("https://bucket.example/", key, "?life=", life), nil
}

// setup is how a bucket is set up.
type setup struct {
	keeps           bool
	locks, encrypts string
	lifecycle       []rule
	err             error // of whoever asks
}

// set sets the bucket up.
func (f *fake) set(s setup) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setup = s
}

func (f *fake) settings() setup {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.setup
}

func (f *fake) versioning(context.Context) (bool, error) {
	return f.settings().keeps, f.settings().err
}

func (f *fake) retention(context.Context) (string, error) {
	return f.settings().locks, f.settings().err
}

func (f *fake) rules(context.Context) ([]rule, error) {
	return f.settings().lifecycle, f.settings().err
}

func (f *fake) encryption(context.Context) (string, error) {
	return f.settings().encrypts, f.settings().err
}

// openOn opens a store with small parts, which is closed when the test ends.
func openOn(t testing.TB, b bucket, opts Options) *Store {
	t.Helper()
	if opts.PartSize == 0 {
		opts.PartSize = 64 << 10
	}
	s := open(b, opts)
	s.patience.first, s.patience.most = time.Microsecond, time.Millisecond
	t.Cleanup(func() { _ = s.Close() }) // it may be closed
	return s
}

func smallParts() *fake {
	f := newFake()
	f.minPart = 8 << 10
	return f
}
