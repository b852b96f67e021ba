/* Processes of a job: as which user, with which environment, how they start, how all of them are found and ended. */
#include "agent/app/runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"

#define SANE_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define NSS_BUFFER_MAX (1024 * 1024)
#define BUSY_TRIES 40
#define BUSY_WAIT_MSEC 50
#define PROCESSES_MAX 131072
/* A descendant may be many generations away; each pass over the table finds at least one. */
#define GENERATIONS_MAX 4096

/* ---- users ---- */

/* Calls getpwnam_r, getpwuid_r or getgrnam_r with a buffer that is large enough. */
static int find_passwd(const char *name, uid_t uid, struct passwd *p, char **ret_buffer)
{
	for (size_t size = 4096; size <= NSS_BUFFER_MAX; size *= 4) {
		_cleanup_free_ char *buffer = malloc(size);
		struct passwd *found = NULL;
		int r;

		if (!buffer)
			return -ENOMEM;
		r = name ? getpwnam_r(name, p, buffer, size, &found) : getpwuid_r(uid, p, buffer, size, &found);
		if (found) {
			*ret_buffer = TAKE_PTR(buffer);
			return 0;
		}
		if (r != ERANGE)
			return r && r != ENOENT && r != ESRCH ? -r : -ENOENT;
	}
	return -ERANGE;
}

static int find_group(const char *name, gid_t *ret)
{
	for (size_t size = 4096; size <= NSS_BUFFER_MAX; size *= 4) {
		_cleanup_free_ char *buffer = malloc(size);
		struct group g, *found = NULL;
		int r;

		if (!buffer)
			return -ENOMEM;
		r = getgrnam_r(name, &g, buffer, size, &found);
		if (found) {
			*ret = g.gr_gid;
			return 0;
		}
		if (r != ERANGE)
			return r && r != ENOENT && r != ESRCH ? -r : -ENOENT;
	}
	return -ERANGE;
}

static int set_user(struct runner_user *u, const char *name, const char *home, const char *shell)
{
	u->name = strdup(name);
	u->home = strdup(str_empty(home) ? "/" : home);
	u->shell = strdup(str_empty(shell) ? "/bin/sh" : shell);
	return u->name && u->home && u->shell ? 0 : -ENOMEM;
}

static int find_named(const char *name, const char *group, struct runner_user *u, struct error *err)
{
	_cleanup_free_ char *buffer = NULL;
	struct passwd p;
	int r = find_passwd(name, geteuid(), &p, &buffer);

	/* A container's only user may have no name. */
	if (r == -ENOENT && !name) {
		u->uid = geteuid();
		u->gid = getegid();
		return set_user(u, u->uid ? "nobody" : "root", u->uid ? "/" : "/root", NULL) < 0 ? error_oom(err) : 0;
	}
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, -ENOENT, "there is no user \"%s\" on this machine", name);
	if (r < 0)
		return error_errno(err, r, "cannot look up the user \"%s\"", name ? name : "of this process");
	u->uid = p.pw_uid;
	u->gid = p.pw_gid;
	if (set_user(u, p.pw_name, p.pw_dir, p.pw_shell) < 0)
		return error_oom(err);
	r = group ? find_group(group, &u->gid) : 0;
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, r, "there is no group \"%s\" on this machine", group);
	return r < 0 ? error_errno(err, r, "cannot look up the group \"%s\"", group) : 0;
}

int runner_user_find(const char *text, struct runner_user *ret, struct error *err)
{
	_cleanup_free_ char *name = text ? strdup(text) : NULL;
	struct runner_user u = { 0 };
	char *group;
	int r;

	if (text && !name)
		return error_oom(err);
	group = name ? strchr(name, ':') : NULL;
	if (group)
		*group++ = '\0';
	r = find_named(name, group, &u, err);
	if (r < 0) {
		runner_user_done(&u);
		return r;
	}
	u.switched = u.uid != geteuid() || u.gid != getegid();
	*ret = u;
	return 0;
}

void runner_user_done(struct runner_user *u)
{
	free(u->name);
	free(u->home);
	free(u->shell);
	*u = (struct runner_user){ 0 };
}

/* ---- environment ---- */

static int set_variable(char **env, size_t *n, const char *name, const char *value)
{
	char *text = str_format("%s=%s", name, value);
	size_t len = strlen(name);

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < *n; i++)
		if (strncmp(env[i], text, len + 1) == 0) {
			erase_and_free(env[i]);
			env[i] = text;
			return 0;
		}
	env[(*n)++] = text;
	return 0;
}

int runner_environment(const struct job *job, const struct job_secrets *secrets, const struct runner_user *u,
		       char ***ret, struct error *err)
{
	const struct job_variable *v = job->environment.items;
	const struct job_variable base[] = {
		{ (char[]){ "HOME" }, u->home },  { (char[]){ "USER" }, u->name },
		{ (char[]){ "LOGNAME" }, u->name }, { (char[]){ "SHELL" }, u->shell },
		{ (char[]){ "PATH" }, (char[]){ SANE_PATH } }, { (char[]){ "LANG" }, (char[]){ "C.UTF-8" } },
	};
	char **env = calloc(ARRAY_SIZE(base) + job->environment.n + 1, sizeof(*env));
	size_t n = 0;
	int r = env ? 0 : error_oom(err);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(base); i++)
		r = set_variable(env, &n, base[i].name, base[i].value) < 0 ? error_oom(err) : 0;
	for (size_t i = 0; r >= 0 && i < job->environment.n; i++) {
		const char *value = v[i].value ? v[i].value : job_secret(secrets, v[i].name);

		if (!value)
			r = error_set(err, ERROR_SYSTEM, -ENOENT, "the secret value of the variable %s is missing", v[i].name);
		else
			r = set_variable(env, &n, v[i].name, value) < 0 ? error_oom(err) : 0;
	}
	if (r < 0) {
		runner_environment_free(env);
		return r;
	}
	*ret = env;
	return 0;
}

void runner_environment_free(char **env)
{
	for (char **e = env; e && *e; e++)
		erase_and_free(*e);
	free(env);
}

/* ---- starting ---- */

enum stage { STAGE_SIGNALS, STAGE_STREAMS, STAGE_USER, STAGE_DIRECTORY, STAGE_EXECUTE };

struct report {
	int stage, error;
};

_Noreturn static void give_up(int fd, enum stage stage)
{
	const struct report r = { (int)stage, errno };

	_exit(fs_write_all(fd, &r, sizeof(r)) < 0 ? 126 : 127);
}

static void reset_signals(void)
{
	struct sigaction a = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		if (s != SIGKILL && s != SIGSTOP)
			(void)sigaction(s, &a, NULL); /* those of the C library refuse, rightly */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whatever was handed down to us stays with us. */
static void close_on_exec_from(int first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)first, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */) == 0)
		return;
#endif
	for (int fd = first; fd < 65536; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int become(const struct runner_user *u)
{
	if (!u->switched)
		return 0;
	if (initgroups(u->name, u->gid) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		return -1;
	return 0;
}

/* "Text file busy": another process of this machine was forked while the file was still open for writing. */
static void execute(const struct runner_spawn *s)
{
	/* execvp() looks in PATH of the new environment, as a shell in it would, and gives to sh what has no "#!". */
	environ = s->env;
	for (int i = 0; i < BUSY_TRIES; i++) {
		(void)execvp(s->argv[0], s->argv);
		if (errno != ETXTBSY)
			return;
		(void)poll(NULL, 0, BUSY_WAIT_MSEC);
	}
}

_Noreturn static void child(const struct runner_spawn *s, int in_fd, int report_fd, pid_t parent)
{
	reset_signals();
	/* A session of its own: `kill 0` in a script does not end the runner. */
	(void)setsid();
	(void)umask(022);
	if (dup2(in_fd, STDIN_FILENO) < 0 || dup2(s->out_fd, STDOUT_FILENO) < 0 || dup2(s->err_fd, STDERR_FILENO) < 0)
		give_up(report_fd, STAGE_STREAMS);
	close_on_exec_from(3);
	if (s->nice && setpriority(PRIO_PROCESS, 0, s->nice) < 0)
		give_up(report_fd, STAGE_USER);
	if (become(s->user) < 0)
		give_up(report_fd, STAGE_USER);
	/* A runner that is killed takes its script along, else the script could run twice at a time. Changing the user
	 * has cleared it, so it comes after. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		give_up(report_fd, STAGE_SIGNALS);
	if (s->directory && chdir(s->directory) < 0)
		give_up(report_fd, STAGE_DIRECTORY);
	execute(s);
	give_up(report_fd, STAGE_EXECUTE);
}

/* A file without a name: the script reads it whenever it wants, and nobody has to feed it. */
static int open_input(const char *text, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (!text) {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return fd < 0 ? error_errno(err, -errno, "/dev/null") : TAKE_FD(fd);
	}
	fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno ? -errno : -EIO, "cannot make the input of the job");
	return TAKE_FD(fd);
}

static int tell_failure(const struct runner_spawn *s, const struct report *r, struct error *err)
{
	const char *why = strerror(r->error);

	if (r->stage == STAGE_DIRECTORY)
		return error_set(err, ERROR_USER, -r->error, "cannot enter the working directory %s as user %s: %s", s->directory,
				 s->user->name, why);
	if (r->stage == STAGE_USER)
		return error_set(err, ERROR_SYSTEM, -r->error, "cannot become user %s: %s", s->user->name, why);
	if (r->stage == STAGE_EXECUTE)
		return error_set(err, ERROR_USER, -r->error, "cannot run %s: %s", s->argv[0], why);
	return error_set(err, ERROR_SYSTEM, -r->error, "cannot prepare the process of %s: %s", s->argv[0], why);
}

int runner_spawn(const struct runner_spawn *s, pid_t *ret, struct error *err)
{
	_cleanup_close_ int in_fd = open_input(s->input, err), read_fd = -1, write_fd = -1;
	struct report report;
	pid_t self = getpid(), pid;
	int fds[2];
	ssize_t n;

	if (in_fd < 0)
		return in_fd;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, -errno, "cannot make a pipe");
	read_fd = fds[0];
	write_fd = fds[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, -errno, "cannot start a process");
	if (pid == 0)
		child(s, in_fd, write_fd, self);
	closep(&write_fd);
	do
		n = read(read_fd, &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(report)) {
		(void)waitpid(pid, NULL, 0);
		return tell_failure(s, &report, err);
	}
	*ret = pid;
	return 0;
}

/* ---- finding and ending ---- */

struct process {
	pid_t pid, parent;
	bool ours;
};

/* "PID (NAME) STATE PPID …": the name may hold anything, also blanks and parentheses. */
static bool read_process(const char *name, struct process *ret)
{
	char path[64], text[512], *end;
	_cleanup_close_ int fd = -1;
	ssize_t n;
	uint64_t pid;
	char state;
	int parent;

	if (!str_to_u64(name, INT32_MAX, &pid))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%s/stat", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %c %d", &state, &parent) != 2 || state == 'Z' || state == 'X')
		return false;
	*ret = (struct process){ (pid_t)pid, parent, false };
	return true;
}

static size_t read_processes(struct process **ret)
{
	_cleanup_(closedirp) DIR *d = opendir("/proc");
	struct process *all = NULL, p;
	size_t n = 0, cap = 0;
	struct dirent *e;

	while (d && n < PROCESSES_MAX && (e = readdir(d))) {
		if (!read_process(e->d_name, &p))
			continue;
		if (n == cap) {
			struct process *more = reallocarray(all, cap ? cap * 2 : 256, sizeof(*all));

			if (!more)
				break;
			all = more;
			cap = cap ? cap * 2 : 256;
		}
		all[n++] = p;
	}
	*ret = all;
	return n;
}

static bool is_ours(const struct process *all, size_t n, pid_t parent, pid_t self)
{
	if (parent == self)
		return true;
	for (size_t i = 0; i < n; i++)
		if (all[i].pid == parent)
			return all[i].ours;
	return false;
}

size_t runner_signal_descendants(int signo)
{
	_cleanup_free_ struct process *all = NULL;
	size_t n = read_processes(&all), count = 0;
	pid_t self = getpid();
	bool more = true;

	for (size_t g = 0; more && g < GENERATIONS_MAX; g++) {
		more = false;
		for (size_t i = 0; i < n; i++)
			if (!all[i].ours && is_ours(all, n, all[i].parent, self)) {
				all[i].ours = more = true;
				count++;
			}
	}
	for (size_t i = 0; signo && i < n; i++)
		if (all[i].ours)
			(void)kill(all[i].pid, signo);
	return count;
}
