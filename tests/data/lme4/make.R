# Makes the records of this folder and fits them by lme4 1.1-31 on R 4.2.2 (Debian bookworm), 2026-11-30:
#   Rscript make.R
# records.tsv: 240 records of 70 cows in 30 herd-years, with parity, age and a weight. expected.tsv: restricted maximum
# likelihood (lmer, REML = TRUE) of y ~ parity + age + (1|herd_year) + (1|id), plain and with weights: variances,
# log-likelihood (with its constant), fixed effects, and the predicted effects of the first herd-year and cow.
library(lme4)
set.seed(3)
n <- 240
id <- sprintf("cow%02d", sample(70, n, TRUE))
herd <- sprintf("hy%02d", sample(30, n, TRUE))
parity <- sample(3, n, TRUE)
age <- round(24 + 12 * parity + rnorm(n), 2)
w <- sample(c(0.5, 1, 2, 3), n, TRUE)
y <- 20 + parity + 0.05 * age + rnorm(70)[match(id, sort(unique(id)))] * 1.2 +
  rnorm(30)[match(herd, sort(unique(herd)))] * 0.8 + rnorm(n) * 1.5 / sqrt(w)
d <- data.frame(id, herd_year = herd, parity = factor(parity), age, w, y = round(y, 5))
write.table(d, "records.tsv", sep = "\t", quote = FALSE, row.names = FALSE)
row <- function(name, m) {
  v <- as.data.frame(VarCorr(m))
  of <- function(g) v$vcov[v$grp == g]
  b <- fixef(m)
  r <- ranef(m)
  data.frame(model = name, herd_year = of("herd_year"), id = of("id"), residual = of("Residual"),
    loglik = as.numeric(logLik(m)), intercept = b[1], parity2 = b[2], parity3 = b[3], age = b[4],
    u_herd = r$herd_year[1, 1], u_id = r$id[1, 1])
}
control <- lmerControl(optCtrl = list(ftol_abs = 1e-14, xtol_abs = 1e-12), calc.derivs = FALSE)
f <- y ~ parity + age + (1 | herd_year) + (1 | id)
plain <- lmer(f, d, control = control)
weighted <- lmer(f, d, weights = w, control = control)
out <- rbind(row("plain", plain), row("weighted", weighted))
out[-1] <- signif(out[-1], 10)
write.table(out, "expected.tsv", sep = "\t", quote = FALSE, row.names = FALSE)
