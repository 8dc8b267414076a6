package ldap_test

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// A fault is what a directory does instead of answering.
type fault int

const (
	none     fault = iota
	hang           // says nothing
	hangUp         // closes the connection
	cutOff         // closes it in the middle of the answer
	garbage        // sends what isn't LDAP
	stranger       // answers a request that nobody made
	flood          // answers, and doesn't end
	nested         // answers with something in something, and so on
)

// A request is what a directory was asked.
type request struct {
	op        string // bind, search or starttls
	conn      int    // which connection, counted from 1
	address   string // which of the directory's servers
	secure    bool   // whether it came through TLS
	as        string // the DN that the connection is bound as
	dn        string // who binds, or the base of a search
	password  string
	scope     int64
	deref     int64
	limit     int64
	filter    string
	attribute []string
}

// A directory is a directory with any number of servers, all in this process. It
// compares as real ones do: letter case, control characters and spaces around a value
// make no difference.
type directory struct {
	tls *tls.Config // of the servers; nil for those that can't

	running sync.WaitGroup

	mu       sync.Mutex
	entries  map[string]map[string][]string // by DN
	password map[string]string              // by DN
	result   map[string]int64               // of binds, by DN; those of StartTLS by ""
	down     map[string]bool                // servers, by address
	fault    func(request) fault
	pause    time.Duration // before each answer

	// answer is what a server answers whatever is right; 0 for that.
	answer  func(request) int64
	piece   int    // how many values of an attribute come at once; 0 for all
	stuck   bool   // gives the same piece, whichever is asked for
	endless bool   // sends more entries than it's asked for
	hidden  string // an attribute that nobody may read
	open    map[net.Conn]int
	dialed  int
	most    int // connections at once
	asked   []request
}

// newDirectory has a service account, three users and nobody's groups.
func newDirectory(t *testing.T) *directory {
	t.Helper()
	d := &directory{
		entries: map[string]map[string][]string{}, password: map[string]string{}, result: map[string]int64{},
		down: map[string]bool{}, open: map[net.Conn]int{},
	}
	for _, dn := range []string{base, people, teams, service} {
		d.add(dn, nil)
	}
	d.password[service] = "service's secret"
	for _, name := range []string{"alice", "bob", "carol"} {
		d.addUser(name)
	}
	t.Cleanup(func() {
		d.hangUpAll()
		d.running.Wait()
	})
	return d
}

const (
	base    = "dc=example,dc=com"
	people  = "ou=people," + base
	teams   = "ou=groups," + base
	service = "cn=registry," + base
)

func userDN(name string) string { return "uid=" + ldap.EscapeDN(name) + "," + people }

func (d *directory) add(dn string, attributes map[string][]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries[dn] = maps.Clone(attributes)
}

func (d *directory) addUser(name string) {
	d.add(userDN(name), map[string][]string{"uid": {name}})
	d.set(func() { d.password[userDN(name)] = "password of " + name })
}

// set changes the directory while it's asked.
func (d *directory) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// requests returns what was asked since it was called last.
func (d *directory) requests() []request {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.asked
	d.asked = nil
	return asked
}

// ops returns only the kinds of the requests.
func (d *directory) ops() string {
	var all []string
	for _, r := range d.requests() {
		all = append(all, r.op)
	}
	return strings.Join(all, " ")
}

func (d *directory) connections() (open, dialed, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.open), d.dialed, d.most
}

// hangUpAll closes all connections, as servers do that restart.
func (d *directory) hangUpAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		_ = c.Close()
	}
}

// dial implements Options.Dial.
func (d *directory) dial(ctx context.Context, _, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dialed++
	if d.down[address] {
		return nil, errors.New("connection refused")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	s := &session{d: d, id: d.dialed, address: address, raw: server, conn: server}
	d.open[server] = s.id
	d.most = max(d.most, len(d.open))
	d.running.Go(s.serve)
	return client, nil
}

// A session is a connection as the directory sees it.
type session struct {
	d       *directory
	id      int
	address string
	raw     net.Conn
	conn    net.Conn
	as      string
	secure  bool
}

func (s *session) serve() {
	defer func() {
		_ = s.raw.Close()
		s.d.set(func() { delete(s.d.open, s.raw) })
	}()
	if strings.HasSuffix(s.address, ":636") && !s.handshake() {
		return
	}
	for {
		p, err := ber.ReadPacket(s.conn)
		if err != nil || len(p.Children) < 2 || !s.answer(p) {
			return
		}
	}
}

func (s *session) handshake() bool {
	secured := tls.Server(s.conn, s.d.tls)
	if s.d.tls == nil || secured.Handshake() != nil {
		return false
	}
	s.conn, s.secure = secured, true
	return true
}

// answer answers one request. It returns false if there's nothing more to say.
func (s *session) answer(p *ber.Packet) bool {
	r, op := s.parse(p.Children[1])
	if r.op == "" {
		return false
	}
	s.d.mu.Lock()
	s.d.asked = append(s.d.asked, r)
	f := none
	if s.d.fault != nil {
		f = s.d.fault(r)
	}
	answers, pause := s.answers(r), s.d.pause
	s.d.mu.Unlock()
	time.Sleep(pause)

	id, _ := p.Children[0].Value.(int64)
	if f != none {
		return s.fail(f, id, answers)
	}
	for _, a := range answers {
		if _, err := s.conn.Write(message(id, a)); err != nil {
			return false
		}
	}
	if op == ldap.ApplicationExtendedRequest && code(answers[0]) == 0 {
		return s.handshake()
	}
	return true
}

func (s *session) fail(f fault, id int64, answers []*ber.Packet) bool {
	whole := message(id, answers[len(answers)-1])
	switch f {
	case none, hangUp:
	case hang:
		for { // until the other side has enough
			if _, err := s.conn.Read(make([]byte, 1)); err != nil {
				return false
			}
		}
	case cutOff:
		_, _ = s.conn.Write(whole[:len(whole)/2]) // who asks may be gone
	case garbage:
		_, _ = s.conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	case stranger:
		_, err := s.conn.Write(message(id+1000, answers[len(answers)-1]))
		return err == nil
	case flood:
		reference := message(id, text(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultReference, strings.Repeat("ldap://elsewhere/", 100)))
		for {
			if _, err := s.conn.Write(reference); err != nil {
				return false
			}
		}
	case nested:
		deep := slices.Repeat([]byte{0x30, 0x80}, 1<<12) // sequences of indefinite length
		for {
			if _, err := s.conn.Write(deep); err != nil {
				return false
			}
		}
	}
	return false
}

func (s *session) parse(op *ber.Packet) (request, ber.Tag) {
	r := request{conn: s.id, address: s.address, secure: s.secure, as: s.as}
	switch op.Tag {
	case ldap.ApplicationBindRequest:
		r.op, r.dn, r.password = "bind", str(op.Children[1]), op.Children[2].Data.String()
	case ldap.ApplicationSearchRequest:
		r.op, r.dn = "search", str(op.Children[0])
		r.scope, r.deref, r.limit = num(op.Children[1]), num(op.Children[2]), num(op.Children[3])
		r.filter, _ = ldap.DecompileFilter(op.Children[6])
		for _, a := range op.Children[7].Children {
			r.attribute = append(r.attribute, str(a))
		}
	case ldap.ApplicationExtendedRequest:
		r.op = "starttls"
	default: // an unbind, say
	}
	return r, op.Tag
}

func (s *session) answers(r request) []*ber.Packet {
	if s.d.answer != nil && s.d.answer(r) != 0 {
		tags := map[string]ber.Tag{"bind": ldap.ApplicationBindResponse, "search": ldap.ApplicationSearchResultDone, "starttls": ldap.ApplicationExtendedResponse}
		return []*ber.Packet{response(tags[r.op], s.d.answer(r))}
	}
	switch r.op {
	case "bind":
		result := s.d.bind(r)
		s.as = ""
		if result == 0 {
			s.as = r.dn
		}
		return []*ber.Packet{response(ldap.ApplicationBindResponse, result)}
	case "search":
		return s.d.search(r)
	}
	result := s.d.result[""]
	if s.d.tls == nil {
		result = ldap.LDAPResultProtocolError
	}
	return []*ber.Packet{response(ldap.ApplicationExtendedResponse, result)}
}

func (d *directory) bind(r request) int64 {
	_, err := ldap.ParseDN(r.dn)
	switch {
	case err != nil:
		return ldap.LDAPResultInvalidDNSyntax
	case d.result[r.dn] != 0:
		return d.result[r.dn]
	case r.password == "" || d.password[r.dn] == r.password:
		return 0 // a bind without a password succeeds: that's what makes it dangerous
	}
	return ldap.LDAPResultInvalidCredentials
}

func (d *directory) search(r request) []*ber.Packet {
	at, err := ldap.ParseDN(r.dn)
	filter, err2 := ldap.CompileFilter(r.filter)
	if err != nil || err2 != nil {
		return []*ber.Packet{response(ldap.ApplicationSearchResultDone, ldap.LDAPResultProtocolError)}
	}
	var answers []*ber.Packet
	result := int64(ldap.LDAPResultNoSuchObject)
	for _, dn := range slices.Sorted(maps.Keys(d.entries)) {
		parsed, err := ldap.ParseDN(dn)
		if err != nil {
			parsed = new(ldap.DN) // one without a DN is below everything here
		}
		if parsed.EqualFold(at) {
			result = 0
		}
		if !within(at, parsed, r.scope) || !matches(filter, d.entries[dn]) {
			continue
		}
		if int64(len(answers)) >= r.limit && r.limit > 0 && !d.endless {
			return append(answers, response(ldap.ApplicationSearchResultDone, ldap.LDAPResultSizeLimitExceeded))
		}
		answers = append(answers, d.entry(dn, r.attribute))
	}
	if result != 0 {
		answers = nil
	}
	return append(answers, response(ldap.ApplicationSearchResultDone, result))
}

func within(at, dn *ldap.DN, scope int64) bool {
	switch scope {
	case ldap.ScopeBaseObject:
		return dn.EqualFold(at)
	case ldap.ScopeSingleLevel:
		return at.AncestorOfFold(dn) && len(dn.RDNs) == len(at.RDNs)+1
	}
	return dn.EqualFold(at) || at.AncestorOfFold(dn) || len(dn.RDNs) == 0
}

// matches reports whether an entry is like a filter.
func matches(f *ber.Packet, entry map[string][]string) bool {
	switch f.Tag {
	case ldap.FilterAnd:
		return !slices.ContainsFunc(f.Children, func(c *ber.Packet) bool { return !matches(c, entry) })
	case ldap.FilterOr:
		return slices.ContainsFunc(f.Children, func(c *ber.Packet) bool { return matches(c, entry) })
	case ldap.FilterNot:
		return !matches(f.Children[0], entry)
	case ldap.FilterPresent:
		return str(f) == "objectClass" || len(valuesOf(entry, str(f))) > 0
	case ldap.FilterEqualityMatch:
		want := str(f.Children[1])
		return slices.ContainsFunc(valuesOf(entry, str(f.Children[0])), func(v string) bool { return same(v, want) })
	case ldap.FilterSubstrings: // good enough to notice that there is one
		return len(valuesOf(entry, str(f.Children[0]))) > 0
	default:
		return false
	}
}

func same(a, b string) bool {
	x, err := ldap.ParseDN(a)
	y, err2 := ldap.ParseDN(b)
	if err == nil && err2 == nil && len(x.RDNs) > 0 && x.EqualFold(y) {
		return true
	}
	return strings.EqualFold(prepared(a), prepared(b))
}

func prepared(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s))
}

func valuesOf(entry map[string][]string, name string) []string {
	for a, values := range entry {
		if strings.EqualFold(a, name) {
			return values
		}
	}
	return nil
}

// entry is an entry as an answer, with some of its attributes.
func (d *directory) entry(dn string, wanted []string) *ber.Packet {
	list := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	for _, attribute := range wanted {
		name, from, ranged := strings.Cut(attribute, ";range=")
		values := valuesOf(d.entries[dn], name)
		if d.piece > 0 && (ranged || len(values) > d.piece) {
			begin, _ := strconv.Atoi(strings.TrimSuffix(from, "-*"))
			if d.stuck {
				begin = 0
			}
			end, to := min(begin+d.piece, len(values)), "*"
			if end < len(values) {
				to = strconv.Itoa(end - 1)
			}
			if !ranged {
				list.AppendChild(attributeOf(name, nil)) // as Active Directory does
			}
			name, values = name+";range="+strconv.Itoa(begin)+"-"+to, values[begin:end]
		}
		if len(values) > 0 && name != d.hidden {
			list.AppendChild(attributeOf(name, values))
		}
	}
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
	p.AppendChild(octets(dn))
	p.AppendChild(list)
	return p
}

func attributeOf(name string, values []string) *ber.Packet {
	a := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	a.AppendChild(octets(name))
	set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "")
	for _, v := range values {
		set.AppendChild(octets(v))
	}
	a.AppendChild(set)
	return a
}

func response(tag ber.Tag, result int64) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, result, ""))
	p.AppendChild(octets(""))
	p.AppendChild(octets("what the directory says"))
	return p
}

func code(p *ber.Packet) int64 { return num(p.Children[0]) }

func message(id int64, op *ber.Packet) []byte {
	p := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	p.AppendChild(op)
	return p.Bytes()
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}

func text(class ber.Class, kind ber.Type, tag ber.Tag, s string) *ber.Packet {
	p := ber.Encode(class, kind, tag, nil, "")
	p.AppendChild(octets(s))
	return p
}

func str(p *ber.Packet) string {
	if s, ok := p.Value.(string); ok {
		return s
	}
	return p.Data.String()
}

func num(p *ber.Packet) int64 {
	n, _ := p.Value.(int64)
	return n
}
