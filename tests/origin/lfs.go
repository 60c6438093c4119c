package origin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// LFS keeps objects by their SHA-256 and hands them out as forges do: a batch API says
// where each is (https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md), and
// who has that URL gets it. It is safe for concurrent use.
type LFS struct {
	// Storage is the host of objects under URLs that are signed as S3's are. "": they
	// are on the host of the batch API, for the bearers of its token.
	Storage string

	mu      sync.Mutex // guards the rest
	objects map[string][]byte
	secret  []byte
	serial  int
}

// lfsToken is what the batch API gives with URLs that are not signed.
const lfsToken = "RemoteAuth lfs"

// Add keeps an object and returns its name.
func (l *LFS) Add(content []byte) (oid string) {
	sum := sha256.Sum256(content)
	oid = hex.EncodeToString(sum[:])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.objects == nil {
		l.objects, l.secret = make(map[string][]byte), sum[:]
	}
	l.objects[oid] = content
	return oid
}

func (l *LFS) object(oid string) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	content, ok := l.objects[oid]
	return content, ok
}

// lfsBatch is what the API is asked and answers, as far as downloads go.
type lfsBatch struct {
	Transfer  string      `json:"transfer,omitempty"`
	Operation string      `json:"operation,omitempty"`
	HashAlgo  string      `json:"hash_algo,omitempty"`
	Objects   []lfsObject `json:"objects"`
}

type lfsObject struct {
	OID     string               `json:"oid"`
	Size    int64                `json:"size"`
	Actions map[string]lfsAction `json:"actions,omitempty"`
	Error   *lfsError            `json:"error,omitempty"`
}

type lfsAction struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header,omitempty"`
}

type lfsError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Wrap answers the requests of LFS below /NAME.git/info/lfs and leaves others to next.
func (l *LFS) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, ok := strings.Cut(r.URL.Path, ".git/info/lfs/")
		switch {
		case !ok:
			next.ServeHTTP(w, r)
		case path == "objects/batch" && r.Method == http.MethodPost:
			l.batch(w, r)
		case strings.HasPrefix(path, "objects/"):
			if r.Header.Get("Authorization") != lfsToken {
				http.Error(w, `{"message":"no"}`, http.StatusUnauthorized)
				return
			}
			l.send(w, r, strings.TrimPrefix(path, "objects/"))
		default:
			http.NotFound(w, r)
		}
	})
}

func (l *LFS) batch(w http.ResponseWriter, r *http.Request) {
	var asked lfsBatch
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.Operation != "download" {
		http.Error(w, `{"message":"downloads only"}`, http.StatusUnprocessableEntity)
		return
	}
	answer := lfsBatch{Transfer: "basic", HashAlgo: "sha256"}
	for _, o := range asked.Objects {
		content, ok := l.object(o.OID)
		if !ok {
			o.Error = &lfsError{http.StatusNotFound, "no such object"}
		} else {
			o.Size = int64(len(content))
			o.Actions = map[string]lfsAction{"download": l.action(r, o.OID)}
		}
		answer.Objects = append(answer.Objects, o)
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone needs none
}

// action says where an object is.
func (l *LFS) action(r *http.Request, oid string) lfsAction {
	if l.Storage == "" {
		base, _, _ := strings.Cut(r.URL.Path, "/objects/batch")
		return lfsAction{Href: "https://" + r.Host + base + "/objects/" + oid, Header: map[string]string{"Authorization": lfsToken}}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serial++ // no two URLs are alike
	date := time.Now().UTC().Format("20060102T150405Z")
	query := fmt.Sprintf("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=test%%2F%d&X-Amz-Date=%s&X-Amz-Expires=3600&X-Amz-SignedHeaders=host", l.serial, date)
	path := "/alambic/media/7/" + oid[:2] + "/" + oid[2:4] + "/" + oid
	return lfsAction{Href: "https://" + l.Storage + path + "?" + query + "&X-Amz-Signature=" + l.sign(path, query)}
}

func (l *LFS) sign(path, query string) string {
	mac := hmac.New(sha256.New, l.secret)
	mac.Write([]byte(path + "?" + query))
	return hex.EncodeToString(mac.Sum(nil))
}

// ServeHTTP answers for the storage.
func (l *LFS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query, signature, _ := strings.Cut(r.URL.RawQuery, "&X-Amz-Signature=")
	l.mu.Lock()
	good := l.sign(r.URL.Path, query) == signature
	l.mu.Unlock()
	if !good || r.Method != http.MethodGet { // the method is signed as well
		http.Error(w, "<Error><Code>SignatureDoesNotMatch</Code></Error>", http.StatusForbidden)
		return
	}
	l.send(w, r, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
}

func (l *LFS) send(w http.ResponseWriter, r *http.Request, oid string) {
	content, ok := l.object(oid)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
}
