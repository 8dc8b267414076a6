//go:build real

package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// proxy stands before a store. It counts what is asked and sent, and does harm if it's told to.
type proxy struct {
	URL string

	// How many of the requests, from 0 to 1, are refused with 503, get no answer
	// though they were done, or get half of it.
	refused, lost, cut float64

	// latency is added to each request.
	latency time.Duration

	// liar drops the conditions of writes, as a store does that doesn't know them.
	liar bool

	mu     sync.Mutex
	random *rand.Rand
	calls  map[string]int // by operation
	sent   map[string]int64
}

func newProxy(t *testing.T, endpoint string) *proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{random: rand.New(rand.NewPCG(1, 2)), calls: make(map[string]int), sent: make(map[string]int64)}
	through := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it's signed
			if p.liar && r.In.Method == http.MethodPut {
				p.lie(r.Out)
			}
		},
		ModifyResponse: p.respond,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:       log.New(io.Discard, "", 0),
		Transport:      &http.Transport{MaxIdleConnsPerHost: 100},
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.count(r)
		time.Sleep(p.latency)
		if p.roll(p.refused) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "<Error><Code>SlowDown</Code></Error>")
			return
		}
		through.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(srv.Close)
	p.URL = srv.URL
	return p
}

func (p *proxy) roll(share float64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64() < share
}

var errHarm = errors.New("this answer is lost")

// respond loses answers, or the second half of them.
func (p *proxy) respond(r *http.Response) error {
	if p.roll(p.lost) {
		return errHarm
	}
	if r.Request.Method == http.MethodGet && r.ContentLength > 1 && p.roll(p.cut) {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r.Body, r.ContentLength/2), r.Body}
	}
	return nil
}

// lie drops the conditions, and signs what is left.
func (p *proxy) lie(r *http.Request) {
	r.Header.Del("If-Match")
	r.Header.Del("If-None-Match")
	keys := aws.Credentials{AccessKeyID: tool.MinIOKey, SecretAccessKey: tool.MinIOSecret}
	sum := r.Header.Get("X-Amz-Content-Sha256")
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, r, sum, "s3", "us-east-1", time.Now(), func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = true
	}); err != nil {
		panic(err)
	}
}

// count notes a request under the name that S3 has for it.
func (p *proxy) count(r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	what := operation(r)
	p.calls[what]++
	p.sent[what] += max(r.ContentLength, 0)
}

func operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case q.Has("list-type"):
		return "ListObjectsV2"
	case q.Has("uploads") && r.Method == http.MethodGet:
		return "ListMultipartUploads"
	case q.Has("uploads"):
		return "CreateMultipartUpload"
	case q.Has("partNumber"):
		return "UploadPart"
	case q.Has("delete"):
		return "DeleteObjects"
	case q.Has("uploadId") && r.Method == http.MethodDelete:
		return "AbortMultipartUpload"
	case q.Has("uploadId"):
		return "CompleteMultipartUpload"
	}
	return r.Method[:1] + strings.ToLower(r.Method[1:]) + "Object"
}

// counted says what fn has asked of the store.
func (p *proxy) counted(fn func()) (total int, calls map[string]int, sent int64) {
	p.mu.Lock()
	clear(p.calls)
	clear(p.sent)
	p.mu.Unlock()
	fn()
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, n := range p.calls {
		total += n
		sent += p.sent[what]
	}
	return total, maps.Clone(p.calls), sent
}
