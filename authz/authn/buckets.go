package authn

import (
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// maxBuckets is how many keys are counted by default. A bucket takes some 300 bytes.
const maxBuckets = 16 << 10

// buckets has a token bucket for each key that something was counted for lately. Who
// uses it has it to itself.
type buckets[K comparable] struct {
	rate  Rate
	byKey *simplelru.LRU[K, *bucket]
}

type bucket struct {
	limiter *rate.Limiter
	open    int           // attempts that go on
	ended   chan struct{} // closed when one of them ends; nil if nobody waits
}

func newBuckets[K comparable](r Rate, most int) *buckets[K] {
	r.Burst = max(1, r.Burst) // without tokens nobody would ever get in
	b := &buckets[K]{rate: r}
	b.byKey, _ = simplelru.NewLRU(most, func(_ K, c *bucket) { c.wake() }) // it's positive
	return b
}

// wait returns how long it takes until there's a token for the key; zero is now.
func (b *buckets[K]) wait(key K, now time.Time) time.Duration {
	c, ok := b.byKey.Get(key)
	if !ok {
		return 0
	}
	missing := 1 - c.limiter.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(1, time.Duration(missing*float64(b.rate.Every)))
}

// take takes a token, if there's one.
func (b *buckets[K]) take(key K, now time.Time) { b.get(key).limiter.AllowN(now, 1) }

// busy returns nil if there's a token that no open attempt may need, or what is closed
// when one of them has ended.
func (b *buckets[K]) busy(key K, now time.Time) <-chan struct{} {
	c, ok := b.byKey.Get(key)
	if !ok || c.limiter.TokensAt(now) >= float64(c.open+1) {
		return nil
	}
	if c.ended == nil {
		c.ended = make(chan struct{})
	}
	return c.ended
}

// begin counts an attempt as open.
func (b *buckets[K]) begin(key K) { b.get(key).open++ }

// end counts an attempt as open no more. A bucket that is as good as new isn't kept.
func (b *buckets[K]) end(key K, now time.Time) {
	c := b.get(key) // a new one, if the old one made room for others
	c.open = max(0, c.open-1)
	c.wake()
	if c.open == 0 && c.limiter.TokensAt(now) >= float64(b.rate.Burst) {
		b.byKey.Remove(key)
	}
}

func (c *bucket) wake() {
	if c.ended != nil {
		close(c.ended)
		c.ended = nil
	}
}

func (b *buckets[K]) get(key K) *bucket {
	c, ok := b.byKey.Get(key)
	if !ok {
		c = &bucket{limiter: rate.NewLimiter(rate.Every(b.rate.Every), b.rate.Burst)}
		b.byKey.Add(key, c)
	}
	return c
}
