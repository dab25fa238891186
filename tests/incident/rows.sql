-- What the developers of the incident would lose: 2 users, 3 tasks, 6 outputs.
INSERT INTO users (id, email, name, is_active, is_superuser, created_at) VALUES
    ('u1', 'one@example.com', 'One', true, true, '2025-06-01 08:00'),
    ('u2', 'two@example.com', NULL, true, false, '2025-06-02 08:00');

INSERT INTO tasks (github_url, prompt, variations, status, created_at, completed_at, user_id, results, archived) VALUES
    ('https://github.com/example/web-app', 'Add a login page', 2, 'completed', '2025-06-03 08:00', '2025-06-03 08:05', 'u1', '{"best": 1}', false),
    ('https://github.com/example/cli-tool', 'Quote the user''s paths', 1, 'completed', '2025-06-04 08:00', '2025-06-04 08:02', 'u1', NULL, true),
    ('https://github.com/example/web-app', 'Translate the page: café, 東京', 1, 'pending', '2025-06-05 08:00', NULL, 'u2', NULL, false);

INSERT INTO task_outputs (task_id, variation_id, content, timestamp, output_type) VALUES
    (1, 0, E'--- a/login.py\n+++ b/login.py\n', '2025-06-03 08:01', 'diffs'),
    (1, 0, 'variation 0: done', '2025-06-03 08:02', 'logging'),
    (1, 1, E'tab\there, backslash \\ there', '2025-06-03 08:03', 'logging'),
    (1, 1, 'variation 1: done', '2025-06-03 08:04', 'logging'),
    (2, 0, '', '2025-06-04 08:01', 'stdout'),
    (2, 0, '{"lines_added": 3}', '2025-06-04 08:02', 'metrics');
