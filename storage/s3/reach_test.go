package s3

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A store is reached in another way from one call to the next.
func TestReach(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "condemned") { // what Ready looks for
			asked <- r.Header.Get("Authorization")
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
	}))
	defer srv.Close()
	at := Location{Bucket: "registry", Endpoint: srv.URL, PathStyle: true, AccessKey: "first", SecretKey: "secret", RootCAs: x509.NewCertPool()}
	s, err := Open(t.Context(), at, Options{SingleWriter: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-s.probe.done // which has asked, too
	for len(asked) > 0 {
		<-asked
	}
	want := func(key string) {
		t.Helper()
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := <-asked; !strings.Contains(got, "Credential="+key+"/") {
			t.Fatalf("asked as %s, want %s", got, key)
		}
	}
	want("first")
	same := s.bucket.bucket()
	at.RootCAs = x509.NewCertPool()
	if err := s.Reach(t.Context(), at); err != nil || s.bucket.bucket() != same {
		t.Fatalf("reached as before it's another bucket, or %v", err)
	}
	at.AccessKey = "second"
	if err := s.Reach(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	want("second")
	if _, ok := s.bucket.bucket().(unconditional); !ok {
		t.Fatal("the only writer has conditions now")
	}
	at.RootCAs = nil
	before := s.bucket.bucket()
	if err := s.Reach(t.Context(), at); err != nil || s.bucket.bucket() == before {
		t.Fatalf("other certificates make no difference, or %v", err)
	}
}
