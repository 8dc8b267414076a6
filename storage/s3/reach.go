package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"sync"
)

// Open returns the store in a bucket. It asks nothing before it returns.
func Open(ctx context.Context, at Location, opts Options) (*Store, error) {
	if at.Bucket == "" {
		return nil, errors.New("s3: no bucket")
	}
	b, err := newAWS(ctx, at)
	if err != nil {
		return nil, err
	}
	s := openProbed(b, opts) //nolint:contextcheck // the probe outlives the opening
	s.reach.aws = b
	return s, nil
}

// reach is how the bucket is reached now.
type reach struct {
	mu  sync.Mutex
	aws *awsBucket // nil if it isn't one
}

func (r *reach) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.aws != nil {
		r.aws.close()
	}
}

// Reach changes how the bucket is reached from now on: by which endpoint, with
// whose keys, how objects are to be kept. It has to be the same bucket.
func (s *Store) Reach(ctx context.Context, at Location) error {
	s.reach.mu.Lock()
	defer s.reach.mu.Unlock()
	if s.reach.aws != nil && s.reach.aws.at.equal(at) {
		return nil
	}
	b, err := newAWS(ctx, at)
	if err != nil {
		return err
	}
	var now bucket = b
	if s.options().SingleWriter {
		now = unconditional{b}
	}
	s.bucket.now.Store(&now)
	if s.reach.aws != nil {
		s.reach.aws.close() // what is under way goes on
	}
	s.reach.aws = b
	return nil
}

func (l Location) equal(other Location) bool {
	same := sameRoots(l.RootCAs, other.RootCAs)
	l.RootCAs, other.RootCAs = nil, nil
	return same && l == other
}

func sameRoots(a, b *x509.CertPool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}
