<?php
define('DRUPAL_ROOT', __DIR__);
chdir(DRUPAL_ROOT);
require DRUPAL_ROOT . '/includes/bootstrap.inc';
drupal_bootstrap(DRUPAL_BOOTSTRAP_FULL);
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
  db_query("INSERT INTO node VALUES ('posted')");
}
echo db_query('SELECT group_concat(title) FROM node')->fetchColumn();
