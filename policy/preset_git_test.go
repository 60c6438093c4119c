package policy

import (
	"strings"
	"testing"
	"time"
)

func TestPresetGit(t *testing.T) {
	t.Parallel()
	const (
		repo = "https://github.com/rust-lang/cargo.git"
		day  = 24 * time.Hour
		name = "0123456789012345678901234567890123456789"
	)
	oid := strings.Repeat("9f86", 16)
	checkShapes(t, "git", []shape{
		{method: "POST", url: repo + "/git-upload-pack", rule: "packs", action: Immutable, ttl: day},
		{method: "POST", url: "https://gitlab.com/group/sub/project.git/git-upload-pack", rule: "packs", action: Immutable, ttl: day},
		{method: "POST", url: "https://git.kernel.org/pub/scm/git/git.git/git-upload-pack", rule: "packs", action: Immutable, ttl: day},
		{method: "POST", url: "https://chromium.googlesource.com/v8/v8/git-upload-pack", rule: "packs", action: Immutable, ttl: day},
		{method: "POST", url: "https://git.sr.ht/~user/repo/git-upload-pack", rule: "packs", action: Immutable, ttl: day},
		{url: repo + "/info/refs?service=git-upload-pack", rule: "advertisements", action: Revalidate},
		{url: "https://codeberg.org/o/r/info/refs?service=git-upload-pack", rule: "advertisements", action: Revalidate},
		{url: "https://git.kernel.org/pub/scm/git/git.git/objects/01/" + name[2:], rule: "objects", action: Immutable, ttl: day},
		{url: "https://git.kernel.org/pub/scm/git/git.git/objects/pack/pack-" + name + ".pack", rule: "objects", action: Immutable, ttl: day},
		{url: "https://git.kernel.org/x.git/objects/01/" + strings.Repeat("ab", 31), rule: "objects", action: Immutable, ttl: day},
		{method: "POST", url: repo + "/git-receive-pack", rule: "writes", action: Pass},
		{method: "POST", url: repo + "/info/lfs/objects/batch", rule: "writes", action: Pass},
		{method: "DELETE", url: "https://gitlab.com/api/v4/projects/1", rule: "writes", action: Pass},
		{method: "POST", url: repo + "/git-upload-pack", body: BodyGitFetch, rule: "packs", action: Immutable, ttl: day},
		{method: "POST", url: repo + "/git-upload-pack", body: BodyGitRefs, rule: "refs", action: Revalidate},
		{method: "POST", url: repo + "/git-upload-pack", body: BodyAny, rule: "writes", action: Pass},
		{method: "POST", url: repo + "/git-upload-pack", body: BodyUnusable, rule: "writes", action: Pass},
		// Pushes begin by asking for other refs, and pages are none of git's: no rule.
		{url: repo + "/info/refs?service=git-receive-pack", action: Pass},
		{url: "https://git.kernel.org/pub/scm/git/git.git/info/refs", rule: "rest", action: Pass},
		{url: "https://git.kernel.org/pub/scm/git/git.git/objects/info/packs", rule: "rest", action: Pass},
		{method: "POST", url: "https://codeberg.org/o/r.git/git-receive-pack", rule: "rest", action: Pass},
		{url: "https://github.com/rust-lang/cargo/releases/latest", action: Pass},
		{url: "https://codeberg.org/o/r.git/info/lfs/objects/" + oid, rule: "lfs-forgejo", action: Immutable},
		{url: "https://gitlab.com/g/s/p.git/gitlab-lfs/objects/" + oid, rule: "lfs-gitlab", action: Immutable},
		// Files that are called like objects.
		{url: "https://codeberg.org/o/r/raw/branch/main/x.git/info/lfs/objects/" + oid, rule: "rest", action: Pass},
		{url: "https://gitlab.com/g/p/-/raw/main/x.git/gitlab-lfs/objects/" + oid, action: Pass},
		{url: "https://github-cloud.githubusercontent.com/alambic/media/12/9f/86/" + oid + "?X-Amz-Signature=x", rule: "lfs-github", action: Immutable},
		{method: "PUT", url: "https://github-cloud.githubusercontent.com/alambic/uploads/1", rule: "lfs-uploads", action: Pass},
		{url: "https://api.github.com/repos/rust-lang/cargo", action: Tunnel},
		{method: "POST", url: "https://git.corp.example/r.git/git-upload-pack", action: Tunnel},
	})
}
