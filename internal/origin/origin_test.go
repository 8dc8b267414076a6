package origin

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"https://registry.example.com": "", "http://127.0.0.1:5000": "", "https://[::1]:5000/": "",
		"": "want https://host", "localhost:5000": "want https://host", "ftp://host": "want https://host",
		"https://": "want https://host", "https://a b": "want https://host",
		"https://host/v2":           "want nothing but https://host; clients",
		"https://alice:secret@host": "want nothing but https://host; clients",
		"http://host:80?a":          "want nothing but http://host:80; clients",
		"http://host#a":             "want nothing but http://host; clients",
	} {
		err := Check(s)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST:80": true, "127.0.0.1": true, "127.8.9.1:5000": true,
		"[::1]:5000": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, ":5000": false, "0.0.0.0:5000": false, "[::]:5000": false,
		"192.0.2.1": false, "localhost.example.com": false, "127.0.0.1.example.com:80": false,
	} {
		if got := IsLoopback(host); got != want {
			t.Errorf("IsLoopback(%q) = %v, want %v", host, got, want)
		}
	}
}
